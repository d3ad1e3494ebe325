// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";

import { retentionOf } from "./retention";

test("tiers follow one another and leave out those that are off", () => {
    const kept = retentionOf({ interval: 1, all: 3600, minute: 86_400, hour: 0, day: 864_000 });
    expect(kept.map((k) => [k.tier, k.from, k.until, k.points])).toEqual([
        ["all", 0, 3600, 3600],
        ["minute", 3600, 90_000, 1440],
        ["day", 90_000, 954_000, 10],
    ]);
});

test("points are never closer than the policy makes them", () => {
    const [all, minute] = retentionOf({ interval: 300, all: 3600, minute: 3600, hour: 0, day: 0 });
    expect(all?.points).toBe(12);
    expect(minute?.every).toBe(300);
});

test("nothing is kept of a policy without tiers", () => {
    expect(retentionOf({ interval: 1, all: 0, minute: 0, hour: 0, day: 0 })).toEqual([]);
});
