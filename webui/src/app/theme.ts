// SPDX-License-Identifier: Apache-2.0
//
// Light, dark, or as the system has it. PatternFly's dark theme is a class of the root element.
import { useSyncExternalStore } from "react";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const STORAGE_KEY = "leeward-theme";
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function chosen(): Theme {
    const stored = localStorage.getItem(STORAGE_KEY);
    return THEMES.find((theme) => theme === stored) ?? "system";
}

const isDark = () => chosen() === "dark" || (chosen() === "system" && systemIsDark.matches);

function apply() {
    document.documentElement.classList.toggle("pf-v6-theme-dark", isDark());
    for (const listener of listeners) listener();
}

export function startTheme() {
    systemIsDark.addEventListener("change", apply);
    apply();
}

export function setTheme(theme: Theme) {
    localStorage.setItem(STORAGE_KEY, theme);
    apply();
}

function subscribe(listener: () => void) {
    listeners.add(listener);
    return () => listeners.delete(listener);
}

export const useTheme = () => useSyncExternalStore(subscribe, chosen);
/** For what is drawn by script (canvas) and must be drawn again. */
export const useIsDark = () => useSyncExternalStore(subscribe, isDark);
