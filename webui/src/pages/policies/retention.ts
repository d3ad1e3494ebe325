// SPDX-License-Identifier: Apache-2.0
//
// How many points a policy keeps, and how far back they go: the preview beside its form. As hub/core and the vault thin: every point for A, then
// the first of each minute, hour and day for B, C and D.
export interface Tiers {
    interval: number;
    all: number;
    minute: number;
    hour: number;
    day: number;
}

export interface Kept {
    tier: "all" | "minute" | "hour" | "day";
    /** Seconds between points. */
    every: number;
    /** Seconds, counted back from now. */
    from: number;
    until: number;
    points: number;
}

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

export function retentionOf({ interval, all, minute, hour, day }: Tiers): Kept[] {
    const kept: Kept[] = [];
    let from = 0;
    const add = (tier: Kept["tier"], every: number, span: number) => {
        if (span <= 0) return;
        kept.push({ tier, every, from, until: from + span, points: Math.max(1, Math.floor(span / every)) });
        from += span;
    };
    add("all", Math.max(1, interval), all);
    add("minute", Math.max(interval, MINUTE), minute);
    add("hour", Math.max(interval, HOUR), hour);
    add("day", Math.max(interval, DAY), day);
    return kept;
}
