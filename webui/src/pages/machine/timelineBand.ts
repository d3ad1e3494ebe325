// SPDX-License-Identifier: Apache-2.0
//
// The band of the timeline as plain geometry: points as lines by kind, and the stretches without any.
import type { Point } from "../../api/queries";

export const BAND_WIDTH = 1000;
export const KINDS: Point["kind"][] = ["crash", "filesystem", "application"];
const HEIGHTS = { crash: 30, filesystem: 42, application: 54 };
export const BAND_HEIGHT = 60;

export interface Mark {
    time: number;
    kind: Point["kind"];
}

/** One path of vertical lines; points that fall on one pixel are one line. */
export function linesOf(marks: Mark[], kind: Point["kind"], from: number, to: number): string {
    const seen = new Set<number>();
    for (const mark of marks) if (mark.kind === kind) seen.add(Math.round(((mark.time - from) / (to - from)) * BAND_WIDTH * 2) / 2);
    return [...seen].map((x) => `M${x} ${BAND_HEIGHT}V${BAND_HEIGHT - HEIGHTS[kind]}`).join("");
}

/** Stretches of at least `least` milliseconds between two points (and from the last one to `end`). */
export function gapsOf(times: number[], least: number, end: number): { from: number; to: number }[] {
    const gaps: { from: number; to: number }[] = [];
    const all = [...times].sort((a, b) => a - b);
    for (let i = 0; i < all.length; i++) {
        const here = all[i] ?? 0;
        const next = all[i + 1] ?? end;
        if (next - here >= least) gaps.push({ from: here, to: next });
    }
    return gaps;
}

export interface Bar {
    from: number;
    to: number;
    /** 0 to 1. */
    share: number;
}

/** How many points were made in each step, as bars; a step without any is a gap. */
export function barsOf(counts: (number | null)[], start: number, stepMs: number): { bars: Bar[]; gaps: { from: number; to: number }[] } {
    const most = Math.max(1, ...counts.map((count) => count ?? 0));
    const bars: Bar[] = [];
    const gaps: { from: number; to: number }[] = [];
    counts.forEach((count, i) => {
        const from = start + i * stepMs;
        const to = from + stepMs;
        if (count) bars.push({ from, to, share: count / most });
        else if (gaps.at(-1)?.to === from) gaps[gaps.length - 1] = { from: gaps.at(-1)?.from ?? from, to };
        else gaps.push({ from, to });
    });
    return { bars, gaps };
}
