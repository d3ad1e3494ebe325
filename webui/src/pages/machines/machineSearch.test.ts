// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import type { Machine } from "../../api/queries";
import { filterMachines, readMachineSearch, rpoIsMet } from "./machineSearch";

const machine = (changes: Partial<Machine>) =>
    ({ id: "1", name: "db1", hostname: "db1.example", os_name: "Debian 12", addresses: ["10.1.2.3"], health: "healthy", state: "protected", policy_id: "p", policy_name: "gold", site_id: null, site_name: null, node_id: "n", vault_id: "v", copies: [], rpo_seconds: 1, ...changes }) as Machine;
const target = () => 2;

describe("the search of machines", () => {
    it("takes from an address only what it knows", () => {
        expect(readMachineSearch({ health: "critical,nonsense", state: "protected", q: 42, sort: "-rpo", other: "x" })).toEqual({ health: "critical", state: "protected", q: "42", sort: "-rpo" });
        expect(readMachineSearch({ health: "nonsense", q: "" })).toEqual({});
    });

    it("finds every word in any of the fields", () => {
        const all = [machine({}), machine({ id: "2", name: "web1", addresses: ["10.9.9.9"] })];
        expect(filterMachines(all, { q: "GOLD 10.1" }, target).map((m) => m.id)).toEqual(["1"]);
        expect(filterMachines(all, { q: "debian" }, target)).toHaveLength(2);
        expect(filterMachines(all, { q: "debian absent" }, target)).toEqual([]);
    });

    it("joins the values of one filter by or, and filters by and", () => {
        const all = [machine({}), machine({ id: "2", health: "critical" }), machine({ id: "3", health: "warning", state: "unprotected" })];
        expect(filterMachines(all, { health: "critical,warning" }, target).map((m) => m.id)).toEqual(["2", "3"]);
        expect(filterMachines(all, { health: "critical,warning", state: "protected" }, target).map((m) => m.id)).toEqual(["2"]);
        expect(filterMachines(all, { site: "none" }, target)).toHaveLength(3);
    });

    it("finds what a vault keeps copies of, and what has none", () => {
        const copy = (vault_id: string, state = "following") => ({ vault_id, vault_name: vault_id, state, behind_seconds: 1 }) as Machine["copies"][number];
        const all = [machine({}), machine({ id: "2", copies: [copy("x"), copy("y")] }), machine({ id: "3", copies: [copy("y")] }), machine({ id: "4", vault_id: "w", copies: [copy("y")] }), machine({ id: "5", copies: [copy("y", "ending")] })];
        const found = (search: object) => filterMachines(all, search, target).map((m) => m.id);
        expect(found({ copy: "y" })).toEqual(["2", "3", "4"]);
        expect(found({ copy: "y", vault: "v" })).toEqual(["2", "3"]); // a line of the map
        expect(found({ copy: "none" })).toEqual(["1", "5"]);
        expect(found({ copy: "none,x" })).toEqual(["1", "2", "5"]);
        expect(readMachineSearch({ copy: "x,y" })).toEqual({ copy: "x,y" });
    });

    it("shows behind each number of the overview the machines that it counts", () => {
        const all = [
            machine({}), machine({ id: "2", rpo_seconds: 3 }), machine({ id: "3", state: "resynchronizing" }), machine({ id: "4", state: "enabling", rpo_seconds: null }),
            machine({ id: "5", rpo_seconds: null }), machine({ id: "6", state: "unprotected", rpo_seconds: null }),
        ];
        const behind = (rpo: string) => filterMachines(all, { rpo }, target).map((m) => m.id);
        expect(behind("met")).toEqual(["1"]);
        expect(behind("not_met")).toEqual(["2"]);
        expect(behind("unknown")).toEqual(["3", "4", "5"]);
    });

    it("knows whether the RPO is met only where there is a target and a point", () => {
        expect(rpoIsMet(machine({ rpo_seconds: 1 }), target)).toBe("met");
        expect(rpoIsMet(machine({ rpo_seconds: 3 }), target)).toBe("not_met");
        expect(rpoIsMet(machine({ rpo_seconds: null }), target)).toBeUndefined();
        expect(rpoIsMet(machine({ policy_id: null }), target)).toBeUndefined();
        expect(rpoIsMet(machine({ state: "unprotected" }), target)).toBeUndefined();
    });
});
