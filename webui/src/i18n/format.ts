// SPDX-License-Identifier: Apache-2.0
//
// Numbers, sizes, spans and moments as people of the chosen language write them (Intl).
import { useMemo } from "react";
import { useTranslation } from "react-i18next";

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const SPANS: [Intl.RelativeTimeFormatUnit, number][] = [
    ["year", 31_557_600],
    ["month", 2_629_800],
    ["day", 86_400],
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
];

/** Making one costs as much as drawing a cell, and a table asks for hundreds of the same in each frame. */
function kept<K, F>(make: (key: K) => F): (key: K) => F {
    const all = new Map<K, F>();
    return (key) => {
        const known = all.get(key) ?? make(key);
        all.set(key, known);
        return known;
    };
}

/** Which of BYTE_UNITS a number of bytes is said in. */
function byteUnitOf(bytes: number): number {
    let i = 0;
    while (bytes >= 1024 ** (i + 1) && i < BYTE_UNITS.length - 1) i++;
    return i;
}

/** How far apart the marks of an axis of bytes may be: powers of two, so that each mark is a short number of whatever unit the largest is said in. */
export const BYTE_STEPS = Array.from({ length: 60 }, (_, i) => 2 ** i);

export function formatsOf(language: string) {
    const numbers = kept((digits: number) => new Intl.NumberFormat(language, { maximumFractionDigits: digits }));
    const percents = kept((digits: number) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits }));
    const units = kept((digits: number) => kept((unit: string) => new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: digits })));
    const times = kept((style: "moment" | "clock" | "day") => new Intl.DateTimeFormat(language, { moment: { dateStyle: "medium", timeStyle: "medium" }, clock: { timeStyle: "medium" }, day: { dateStyle: "medium" } }[style] as Intl.DateTimeFormatOptions));
    const relative = kept((numeric: "auto") => new Intl.RelativeTimeFormat(language, { numeric }));
    const number = (value: number, digits = 0) => numbers(digits).format(value);
    const unit = (value: number, name: string, digits = 0) => units(digits)(name).format(value);

    const bytes = (value: number | string) => {
        const i = byteUnitOf(Number(value));
        const rest = Number(value) / 1024 ** i;
        return `${number(rest, i === 0 || rest >= 100 ? 0 : 1)} ${BYTE_UNITS[i] ?? ""}`;
    };
    /** Marks of one axis: all in the unit of the largest. */
    const rateMark = (value: number, largest: number) => {
        const i = byteUnitOf(largest);
        return `${number(value / 1024 ** i, 3)} ${BYTE_UNITS[i] ?? ""}/s`;
    };

    /** "0.8 s", "2 min 5 s", "3 d 4 h": two units at most. */
    const span = (seconds: number) => {
        if (seconds < 60) return unit(seconds, "second", seconds < 10 ? 1 : 0);
        const parts: [string, number][] = [["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]];
        const first = parts.findIndex(([, size]) => seconds >= size);
        const [name = "second", size = 1] = parts[first] ?? [];
        const [nextName, nextSize = 1] = parts[first + 1] ?? [];
        const rest = Math.floor((seconds % size) / nextSize);
        const head = unit(Math.floor(seconds / size), name);
        return nextName && rest > 0 ? `${head} ${unit(rest, nextName)}` : head;
    };

    const moment = (iso: string | number | Date) => times("moment").format(new Date(iso));
    const clock = (iso: string | number | Date) => times("clock").format(new Date(iso));
    const day = (iso: string | number | Date) => times("day").format(new Date(iso));

    /** "3 minutes ago", "in 2 months". */
    const ago = (iso: string | number | Date, now = Date.now()) => {
        const seconds = (new Date(iso).getTime() - now) / 1000;
        const [name, size] = SPANS.find(([, s]) => Math.abs(seconds) >= s) ?? ["second", 1];
        return relative("auto").format(Math.trunc(seconds / size), name);
    };

    return { number, bytes, rate: (value: number | string) => `${bytes(value)}/s`, rateMark, percent: (share: number, digits = 0) => percents(digits).format(share), span, moment, clock, day, ago };
}

/** The browser's own kind of a language, where it names one: English with the clock and the dates of its country. */
export function regionOf(language: string): string {
    return navigator.languages.find((one) => one.startsWith(`${language}-`)) ?? language;
}

export function useFormat() {
    const language = useTranslation().i18n.language;
    return useMemo(() => formatsOf(regionOf(language)), [language]);
}
