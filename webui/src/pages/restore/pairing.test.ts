// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import type { Disk } from "../../api/queries";
import { guess, isComplete, numbered, obstacle } from "./pairing";

const disk = (changes: Partial<Disk>): Disk => ({ key: "serial:X", number: null, size_bytes: 100, is_root: false, present: true, protected: false, volumes: [], ...changes }) as Disk;
const ours = numbered([disk({ number: 1, size_bytes: 50, protected: true }), disk({ number: 0, size_bytes: 90, protected: true }), disk({ number: 2, size_bytes: 10 }), disk({})]);

describe("disks that are overwritten", () => {
    it("are named by the numbers that the point knows", () => expect(ours.map((one) => one.number)).toEqual([0, 1, 2]));

    it("are guessed by size, the largest first, for what is protected", () => {
        const theirs = [disk({ key: "s", size_bytes: 60 }), disk({ key: "l", size_bytes: 100 }), disk({ key: "xl", size_bytes: 400 })];
        expect([...guess(ours, theirs, true)]).toEqual([[0, "l"], [1, "s"]]);
    });

    it("are not guessed on a machine that has other things to do", () => expect([...guess(ours, [disk({ size_bytes: 100 })], false)]).toEqual([[0, ""], [1, ""]]));

    it("are never guessed twice, nor where something is in use", () => {
        const theirs = [disk({ key: "root", is_root: true }), disk({ key: "gone", present: false }), disk({ key: "used", volumes: [{ device: "/dev/x1", mount_points: ["/srv"] }] }), disk({ key: "free" })];
        expect([...guess(ours, theirs, true)]).toEqual([[0, "free"], [1, ""]]);
        expect(theirs.map((one) => obstacle(one, disk({ size_bytes: 101 })))).toEqual(["root", "small", "mounted", "small"]);
    });

    it("are complete when each has one of its own", () => {
        expect(isComplete(new Map())).toBe(false);
        expect(isComplete(new Map([[0, "a"], [1, ""]]))).toBe(false);
        expect(isComplete(new Map([[0, "a"], [1, "a"]]))).toBe(false);
        expect(isComplete(new Map([[0, "a"], [1, "b"]]))).toBe(true);
    });
});
