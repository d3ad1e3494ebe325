// SPDX-License-Identifier: Apache-2.0
//
// The console's languages. The texts of one are a chunk of their own, fetched before anything is drawn.
import i18next from "i18next";
import { initReactI18next } from "react-i18next";

import type { Resources } from "./resources";

export const LANGUAGES = {
    en: { name: "English", tag: "en" },
    zh: { name: "简体中文", tag: "zh-Hans" },
    sv: { name: "Svenska", tag: "sv" },
} as const;
export type Language = keyof typeof LANGUAGES;

const STORAGE_KEY = "leeward-language";
const loaders: Record<Language, () => Promise<{ default: Resources }>> = {
    en: () => import("./locales/en"),
    zh: () => import("./locales/zh"),
    sv: () => import("./locales/sv"),
};

const isLanguage = (text: string): text is Language => text in LANGUAGES;

export function preferredLanguage(): Language {
    const stored = localStorage.getItem(STORAGE_KEY) ?? "";
    if (isLanguage(stored)) return stored;
    return navigator.languages.map((tag) => tag.split("-")[0] ?? "").find(isLanguage) ?? "en";
}

async function load(language: Language) {
    const { default: resources } = await loaders[language]();
    for (const [namespace, texts] of Object.entries(resources)) i18next.addResourceBundle(language, namespace, texts);
    document.documentElement.lang = LANGUAGES[language].tag;
}

export async function startLanguage() {
    const language = preferredLanguage();
    await i18next.use(initReactI18next).init({
        lng: language,
        fallbackLng: false,
        defaultNS: "app",
        resources: {},
        interpolation: { escapeValue: false }, // React does that
        react: { useSuspense: false },
        returnNull: false,
    });
    await load(language);
    await i18next.changeLanguage(language);
}

export async function changeLanguage(language: Language) {
    localStorage.setItem(STORAGE_KEY, language);
    await load(language);
    await i18next.changeLanguage(language);
}
