// SPDX-License-Identifier: Apache-2.0
//
// The filters of the machines' table. They are the address: a link, a bookmark and the overview's numbers are saved filters.
import type { Machine } from "../../api/queries";
import { type Health, HEALTHS, type MachineState, STATES } from "../../widgets/labels";
import { listOf, textOf } from "../../widgets/searchList";

export const RPO_FILTERS = ["met", "not_met", "unknown"] as const;
export type RpoFilter = (typeof RPO_FILTERS)[number];

export interface MachineSearch {
    q?: string;
    health?: string;
    state?: string;
    site?: string;
    policy?: string;
    node?: string;
    vault?: string;
    /** Vaults that keep copies of its points. */
    copy?: string;
    rpo?: string;
    sort?: string;
}

const joined = (list: string[] | undefined) => list?.join(",");

export function readMachineSearch(search: Record<string, unknown>): MachineSearch {
    const found: MachineSearch = {
        q: textOf(search.q),
        health: joined(listOf(search.health, HEALTHS)),
        state: joined(listOf(search.state, STATES)),
        site: joined(listOf(search.site)),
        policy: joined(listOf(search.policy)),
        node: joined(listOf(search.node)),
        vault: joined(listOf(search.vault)),
        copy: joined(listOf(search.copy)),
        rpo: joined(listOf(search.rpo, RPO_FILTERS)),
        sort: textOf(search.sort),
    };
    return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

/** undefined where a machine has no target or no point yet. */
export function rpoIsMet(machine: Machine, targetOf: (policyId: string) => number | undefined): "met" | "not_met" | undefined {
    const target = machine.policy_id ? targetOf(machine.policy_id) : undefined;
    if (!target || machine.rpo_seconds === null || machine.state === "unprotected") return undefined;
    return machine.rpo_seconds <= target ? "met" : "not_met";
}

/** As the overview counts them: only what is protected can meet its target, and nobody asks of what is not to be. */
function rpoOf(machine: Machine, targetOf: (policyId: string) => number | undefined): RpoFilter | "none" {
    if (machine.state === "unprotected") return "none";
    return machine.state === "protected" ? (rpoIsMet(machine, targetOf) ?? "unknown") : "unknown";
}

/** The vaults that keep a copy of its points; of one that is being given up no more. */
export const copiesOf = (machine: Machine) => machine.copies.filter((copy) => copy.state !== "ending");

function hasCopyIn(machine: Machine, vaults: string[]): boolean {
    const copies = copiesOf(machine);
    return copies.length === 0 ? vaults.includes("none") : copies.some((copy) => vaults.includes(copy.vault_id));
}

export function filterMachines(machines: Machine[], search: MachineSearch, targetOf: (policyId: string) => number | undefined): Machine[] {
    const words = (search.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const health = listOf<Health>(search.health);
    const state = listOf<MachineState>(search.state);
    const [site, policy, node, vault, copy, rpo] = [search.site, search.policy, search.node, search.vault, search.copy, search.rpo].map((value) => listOf(value));
    return machines.filter((m) => {
        if (health && !health.includes(m.health)) return false;
        if (state && !state.includes(m.state)) return false;
        if (site && !site.includes(m.site_id ?? "none")) return false;
        if (policy && !policy.includes(m.policy_id ?? "none")) return false;
        if (node && !node.includes(m.node_id ?? "none")) return false;
        if (vault && !vault.includes(m.vault_id ?? "none")) return false;
        if (copy && !hasCopyIn(m, copy)) return false;
        if (rpo && !rpo.includes(rpoOf(m, targetOf))) return false;
        const text = `${m.name} ${m.hostname} ${m.os_name} ${m.addresses.join(" ")} ${m.policy_name ?? ""} ${m.site_name ?? ""}`.toLowerCase();
        return words.every((word) => text.includes(word));
    });
}
