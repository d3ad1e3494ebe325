// SPDX-License-Identifier: Apache-2.0
//
// All languages say everything: the same keys (apart from plural forms, of which each language has its own), the same places for
// values, nothing empty, and nothing left in English by oversight.
import { describe, expect, it } from "vitest";

type Texts = Record<string, string>;

const files = import.meta.glob<object>(["../app/*.json", "../words/*.json", "../pages/*/*.json"], { eager: true, import: "default" });
const folders = [...new Set(Object.keys(files).map((path) => path.replace(/\/\w+\.json$/, "")))];
const languages = ["en", "zh", "sv"] as const;

function flat(node: object, prefix = ""): Texts {
    return Object.fromEntries(
        Object.entries(node).flatMap(([key, value]: [string, unknown]) =>
            typeof value === "string" ? [[prefix + key, value]] : Object.entries(flat(value as object, `${prefix}${key}.`)),
        ),
    );
}

const texts = (folder: string, language: string): Texts => flat(files[`${folder}/${language}.json`] ?? {});
const withoutPlural = (key: string) => key.replace(/_(zero|one|other)$/, "");
const keys = (all: Texts) => [...new Set(Object.keys(all).map(withoutPlural))].sort();
const places = (text: string) => [...new Set(text.match(/\{\{\w+\}\}/g) ?? [])].sort().join(" ");

/** The same in both on purpose: names, abbreviations, and words that the languages share. */
const SHARED = /^({{count}} disk|RPO|RTO|Policy|Information:|Leeward|Problem:|Agent|Status|Test|Port|{{.*}})$/;

describe.each(folders)("%s", (folder) => {
    const english = texts(folder, "en");

    it.each(languages)("has every text in %s", (language) => {
        expect(keys(texts(folder, language))).toEqual(keys(english));
    });

    it.each(languages)("has the same values in %s", (language) => {
        for (const [key, text] of Object.entries(texts(folder, language))) {
            const model = english[key] ?? english[`${withoutPlural(key)}_other`] ?? "";
            if (text !== "") expect(`${key}: ${places(text)}`).toBe(`${key}: ${places(model)}`);
        }
    });

    it.each(languages)("has the plural forms of %s", (language) => {
        const forms = new Intl.PluralRules(language).resolvedOptions().pluralCategories;
        const all = texts(folder, language);
        for (const key of Object.keys(all).filter((k) => k.endsWith("_other")))
            for (const form of forms) expect(Object.keys(all)).toContain(`${withoutPlural(key)}_${form}`);
    });

    it.each(["zh", "sv"])("is translated to %s", (language) => {
        const same = Object.entries(texts(folder, language)).filter(([key, text]) => text !== "" && text === english[key] && !SHARED.test(text));
        expect(same).toEqual([]);
    });
});
