// SPDX-License-Identifier: Apache-2.0
//
// What the hub says, in the console's language: by the word that it gives its texts and with the values that stand in them. A word that is not known here, or a text that came without
// its values (from an older hub), is shown as the hub said it.
import type { i18n as I18n } from "i18next";
import { useMemo } from "react";
import { useTranslation } from "react-i18next";

import { type formatsOf, useFormat } from "../i18n/format";

export type Values = Record<string, string | number>;
/** A finding as the hub says it. */
interface Said {
    cause: string;
    remedy: string;
}

const PLACE = /\{\{(\w+)\}\}/g;
/** Values that are words of the hub, and where their texts are. */
const WORDS: Record<string, string> = { job: "app:jobs.kind", who: "words:who" };

export function wordsOf(i18n: Pick<I18n, "language" | "getResource">, formats: ReturnType<typeof formatsOf>) {
    const textOf = (namespace: string, key: string) => {
        const text: unknown = i18n.getResource(i18n.language, namespace, key);
        return typeof text === "string" ? text : undefined;
    };
    const numberAs = (name: string, value: number) => {
        switch (name.split("_").at(-1)) {
            case "seconds":
                return formats.span(value);
            case "hours":
                return formats.span(value * 3600);
            case "days":
                return formats.span(value * 86_400);
            case "percent":
                return formats.percent(value / 100);
            default:
                return formats.number(value);
        }
    };
    const shown = (name: string, value: string | number) => {
        if (typeof value === "number") return numberAs(name, value);
        const [namespace = "", path = ""] = (WORDS[name] ?? "").split(":");
        return (path && textOf(namespace, `${path}.${value}`)) || value;
    };
    /** The text of that name, or undefined when there is none or a value of it is missing. */
    const say = (key: string, values: Values) => {
        const text = textOf("words", key);
        const isWhole = [...(text ?? "").matchAll(PLACE)].every(([, name]) => values[name ?? ""] !== undefined);
        return isWhole ? text?.replace(PLACE, (_place, name: string) => shown(name, values[name] ?? "")) : undefined;
    };
    /** Code and values of a cause or an alert. */
    const finding = (code: string, values: Values, said: Said): Said => {
        const key = ["finding", code, values.form].filter((part) => part !== undefined).join(".");
        const cause = say(`${key}.cause`, values);
        const remedy = say(`${key}.remedy`, values);
        return cause === undefined || remedy === undefined ? said : { cause, remedy };
    };
    return { finding };
}

/** Gives the same functions until the language changes. */
export function useWords() {
    const { i18n } = useTranslation();
    const language = i18n.language;
    const formats = useFormat();
    // eslint-disable-next-line react-hooks/exhaustive-deps -- i18n is one object for all languages
    return useMemo(() => wordsOf(i18n, formats), [i18n, language, formats]);
}

/** Cause and remedy of a machine, a node or a vault; both empty when nothing is wrong. */
export function useCause(): (of: { cause_code: string; cause_values: Values; cause: string; remedy: string }) => Said {
    const { finding } = useWords();
    return useMemo(() => (of) => (of.cause ? finding(of.cause_code, of.cause_values, of) : of), [finding]);
}
