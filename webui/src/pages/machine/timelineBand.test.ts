// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import { barsOf, gapsOf, linesOf } from "./timelineBand";

describe("the band of the timeline", () => {
    it("draws points that fall together once", () => {
        const marks = [1000, 1000.01, 6000].map((time) => ({ time, kind: "crash" as const }));
        expect(linesOf(marks, "crash", 1000, 11_000)).toBe("M0 60V30M500 60V30");
        expect(linesOf(marks, "application", 1000, 11_000)).toBe("");
    });

    it("shows stretches without points, also the one that has not ended", () => {
        expect(gapsOf([1000, 2000, 9000], 5000, 10_000)).toEqual([{ from: 2000, to: 9000 }]);
        expect(gapsOf([9000, 1000], 5000, 20_000)).toEqual([{ from: 1000, to: 9000 }, { from: 9000, to: 20_000 }]);
        expect(gapsOf([], 5000, 20_000)).toEqual([]);
    });

    it("joins steps without points to one gap, measured or not", () => {
        const { bars, gaps } = barsOf([60, null, 0, 30], 0, 1000);
        expect(bars).toEqual([{ from: 0, to: 1000, share: 1 }, { from: 3000, to: 4000, share: 0.5 }]);
        expect(gaps).toEqual([{ from: 1000, to: 3000 }]);
    });
});
