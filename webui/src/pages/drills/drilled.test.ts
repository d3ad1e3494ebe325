// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import type { Machine } from "../../api/queries";
import { drilledOf, type DrillMachine } from "./drilled";

const drill = (id: string, changes: Partial<DrillMachine> = {}): DrillMachine =>
    ({ machine_id: id, machine_name: id, overdue: false, overdue_at: "2026-01-08T00:00:00Z", last_good_at: "2026-01-01T00:00:00Z", last_at: null, last_verdict: null, last_failover_id: null, ...changes });
const machine = (id: string, state = "protected") => ({ id, name: id, state }) as Machine;
const answered = <T>(data: T[]) => ({ data, error: null, isPending: false });
const pending = { data: undefined, error: null, isPending: true };
const failed = (error: Error) => ({ data: undefined, error, isPending: false });

describe("the machines of drills", () => {
    it("are those of drills, and the protected ones that are in none", () => {
        const drilled = answered([drill("a"), drill("b", { overdue: true }), drill("c", { last_good_at: null })]);
        const machines = answered([machine("a"), machine("b"), machine("c"), machine("d"), machine("e", "unprotected")]);
        const ids = (...only: Parameters<typeof drilledOf>[2][]) => drilledOf(drilled, machines, ...only).data?.map((one) => one.machine_id);
        expect(ids()).toEqual(["a", "b", "c", "d"]);
        expect(ids("fresh")).toEqual(["a"]);
        expect(ids("overdue")).toEqual(["b"]);
        expect(ids("pending")).toEqual(["c"]);
        expect(ids("uncovered")).toEqual(["d"]);
    });

    it("are not known until both lists have answered", () => {
        expect(drilledOf(answered([drill("a")]), pending, "uncovered")).toEqual(pending);
        expect(drilledOf(pending, answered([machine("a")]), "uncovered")).toEqual(pending);
    });

    it("come with the error of either list", () => {
        const error = new Error("503");
        expect(drilledOf(answered([drill("a")]), failed(error), "uncovered")).toEqual(failed(error));
        expect(drilledOf(failed(error), answered([machine("a")]))).toEqual(failed(error));
        // What is known stays while it cannot be asked for again.
        expect(drilledOf(answered([]), { ...answered([machine("a")]), error })).toMatchObject({ data: [{ machine_id: "a" }], error });
    });
});
