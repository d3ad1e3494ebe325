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
/** An event as the hub says it. */
interface Told {
    text: string;
    /** The words of who told it, where the text only names what it is about. */
    said?: string;
    remedy: string;
}

/** Values that are words of the hub, and where their texts are. */
const WORDS: Record<string, string> = {
    job: "app:jobs.kind", from: "app:state", to: "app:state", level: "app:health",
    who: "words:who", move: "words:move", reason: "words:reason",
    failover: "failovers:kind", boot_check: "failovers:verdict",
    run: "plans:kind", ended: "plans:run", verdict: "plans:verdict",
};
/** What a number is measured in, at the end of its value's name. */
const UNIT = /_(seconds|hours|days|percent)$/;
const keyOf = (kind: string, code: string, form: string | number | undefined) => [kind, code, form].filter((part) => part !== undefined && part !== "").join(".");

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
        if (typeof value === "number" || (UNIT.test(name) && value !== "" && Number.isFinite(Number(value)))) return numberAs(name, Number(value));
        const [namespace = "", path = ""] = (WORDS[name] ?? "").split(":");
        return (path && textOf(namespace, `${path}.${value}`)) || value;
    };
    /** The text of that name, or undefined when there is none or a value of it is missing. */
    const say = (key: string, values: Record<string, string | number | undefined>) => {
        const text = textOf("words", key);
        const isWhole = [...(text ?? "").matchAll(PLACE)].every(([, name]) => values[name ?? ""] !== undefined);
        return isWhole ? text?.replace(PLACE, (_place, name: string) => shown(name, values[name] ?? "")) : undefined;
    };
    /** Code and values of a cause or an alert. */
    const finding = (code: string, values: Values, said: Said): Said => {
        const key = keyOf("finding", code, values.form);
        const cause = say(`${key}.cause`, values);
        const remedy = say(`${key}.remedy`, values);
        return cause === undefined || remedy === undefined ? said : { cause, remedy };
    };
    /** What an event says of a finding or of alerts, in words; what is not known stays away. */
    const insideOf = (values: Values) => {
        const [code = "", form] = String(values.finding ?? "").split(".");
        const titleOf = (alert: string | number | undefined) => textOf("app", `alert.${alert ?? ""}`) ?? String(alert ?? "");
        const named = [1, 2, 3].filter((n) => values[`alert_${n}`] !== undefined).map((n) => `${values[`name_${n}`] ?? ""}: ${titleOf(values[`alert_${n}`])}`);
        const more = Number(values.raised) > named.length ? ["…"] : [];
        return {
            ...(values.finding !== undefined && { finding: say(`${keyOf("finding", code, form)}.cause`, values), advice: say(`${keyOf("finding", code, form)}.remedy`, values) }),
            ...(named.length > 0 && { alerts: new Intl.ListFormat(i18n.language).format([...named, ...more]) }),
            ...(values.alert !== undefined && { title: textOf("app", `alert.${values.alert}`) ?? values.title }),
        };
    };
    /** What agents, nodes and vaults tell is in their words, under a title of ours. */
    const toldBy = (told: Told & { code: string }): Told => {
        const title = textOf("words", `told.${told.code}`);
        return title === undefined ? told : { text: title, said: told.text, remedy: told.remedy };
    };
    const event = (told: Told & { code: string; values: Values }): Told => {
        const values = { ...told.values, ...insideOf(told.values) };
        const key = keyOf("event", told.code, told.values.form);
        const text = say(`${key}.text`, values);
        const remedy = say(`${key}.remedy`, values);
        return text === undefined || remedy === undefined ? toldBy(told) : { text, remedy };
    };
    return { finding, event };
}

/** Gives the same functions until the language changes. */
export function useWords() {
    const { i18n } = useTranslation();
    const language = i18n.language;
    const formats = useFormat();
    // eslint-disable-next-line react-hooks/exhaustive-deps -- i18n is one object for all languages
    return useMemo(() => wordsOf(i18n, formats), [i18n, language, formats]);
}

/** Cause and remedy of a machine, a node, a vault or a group; both empty when nothing is wrong. */
export function useCause(): (of: { cause_code: string; cause_values: Values; cause: string; remedy: string }) => Said {
    const { finding } = useWords();
    return useMemo(() => (of) => (of.cause ? finding(of.cause_code, of.cause_values, of) : of), [finding]);
}
