// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import type { Machine } from "../../api/queries";
import { hasFailedOver, mayFailOver, subjectOf } from "./subject";

const machine = (id: string, state: Machine["state"] = "protected", last_point_sequence: number | null = 7) => ({ id, state, last_point_sequence }) as Machine;

describe("the machine that fails over", () => {
    it("replicates and has a point", () => {
        expect((["initial_replication", "protected", "resynchronizing"] as const).map((state) => mayFailOver(machine("a", state)))).toEqual([true, true, true]);
        expect((["unprotected", "enabling", "failed_over", "committed"] as const).map((state) => mayFailOver(machine("a", state)))).toEqual([false, false, false, false]);
        expect(mayFailOver(machine("a", "initial_replication", null))).toBe(false);
        expect(mayFailOver(machine("a", "protected", 0))).toBe(true);
    });

    it("has failed over until it is back", () => {
        expect((["failed_over", "committed", "reverse_replicating", "reverse_protected"] as const).map((state) => hasFailedOver(machine("a", state)))).toEqual([true, true, true, true]);
        expect((["unprotected", "enabling", "initial_replication", "protected", "resynchronizing"] as const).some((state) => hasFailedOver(machine("a", state)))).toBe(false);
    });

    it("is the one that was chosen, wherever it is in the list", () => expect(subjectOf([machine("a"), machine("b")], "b")?.id).toBe("b"));

    it("is never another one when that is not there", () => {
        expect(subjectOf([machine("a"), machine("b")], "c")).toBeUndefined();
        expect(subjectOf([], "c")).toBeUndefined();
    });

    it("is the first one while nobody has chosen", () => {
        expect(subjectOf([machine("a"), machine("b")], "")?.id).toBe("a");
        expect(subjectOf([], "")).toBeUndefined();
    });
});
