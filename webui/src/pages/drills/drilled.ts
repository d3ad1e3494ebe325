// SPDX-License-Identifier: Apache-2.0
//
// The machines of drills on a schedule, and those that are protected and in none: two lists of the hub in one.
import type { Machine } from "../../api/queries";
import type { components } from "../../api/schema";

export type DrillMachine = components["schemas"]["DrillMachine"];

/** What the numbers of the overview count. */
export const FRESHNESS = ["overdue", "pending", "fresh", "uncovered"] as const;
export type Freshness = (typeof FRESHNESS)[number];

/** As much of a query as a list shows. */
interface Listed<T> {
    data: T[] | undefined;
    error: unknown;
    isPending: boolean;
}

export function freshnessOf(machine: DrillMachine): Freshness {
    if (machine.overdue) return "overdue";
    if (!machine.overdue_at) return "uncovered";
    return machine.last_good_at ? "fresh" : "pending";
}

function uncoveredOf(drilled: DrillMachine[], machines: Machine[]): DrillMachine[] {
    const covered = new Set(drilled.map((one) => one.machine_id));
    return machines.filter((one) => one.state === "protected" && !covered.has(one.id)).map((one) => ({
        machine_id: one.id, machine_name: one.name, overdue: false, last_good_at: null, overdue_at: null, last_at: null, last_verdict: null, last_failover_id: null,
    }));
}

/** Nothing is listed until both have answered: without the one all machines are uncovered, without the other none is. */
export function drilledOf(drilled: Listed<DrillMachine>, machines: Listed<Machine>, only?: Freshness): Listed<DrillMachine> {
    const all = drilled.data && machines.data && [...drilled.data, ...uncoveredOf(drilled.data, machines.data)];
    return { data: all?.filter((one) => !only || freshnessOf(one) === only), error: drilled.error ?? machines.error, isPending: drilled.isPending || machines.isPending };
}
