// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import { BYTE_STEPS, formatsOf } from "./format";

describe("formats", () => {
    const en = formatsOf("en");
    const sv = formatsOf("sv");

    it("writes spans in at most two units", () => {
        expect(en.span(0.84)).toBe("0.8 sec");
        expect(en.span(42)).toBe("42 sec");
        expect(en.span(125)).toBe("2 min 5 sec");
        expect(en.span(3600)).toBe("1 hr");
        expect(en.span(90_000)).toBe("1 day 1 hr");
    });

    it("writes sizes in binary units", () => {
        expect(en.bytes(0)).toBe("0 B");
        expect(en.bytes(1536)).toBe("1.5 KiB");
        expect(en.bytes("9007199254740993")).toBe("8 PiB");
        expect(sv.bytes(1536)).toBe("1,5 KiB");
    });

    it("marks an axis in one unit, at round numbers of it", () => {
        const most = 1.9 * 1024 ** 2;
        const step = BYTE_STEPS.find((one) => one * 6 >= most) ?? 0;
        const marks = Array.from({ length: Math.ceil(most / step) + 1 }, (_, n) => n * step);
        expect(marks.map((value) => en.rateMark(value, Math.max(...marks)))).toEqual(["0 MiB/s", "0.5 MiB/s", "1 MiB/s", "1.5 MiB/s", "2 MiB/s"]);
    });

    it("says a mark in the unit of the largest", () => {
        expect(en.rateMark(262_144, 1_048_576)).toBe("0.25 MiB/s");
    });

    it("tells how long ago, and how soon", () => {
        const now = Date.parse("2026-05-01T12:00:00Z");
        expect(en.ago("2026-05-01T11:57:00Z", now)).toBe("3 minutes ago");
        expect(en.ago("2026-07-01T12:00:00Z", now)).toBe("in 2 months");
        expect(sv.ago("2026-05-01T11:57:00Z", now)).toBe("för 3 minuter sedan");
    });
});
