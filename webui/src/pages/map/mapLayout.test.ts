// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import type { Machine, Node, Vault } from "../../api/queries";
import { type Box, layOut, type Line, rowsOf } from "./mapLayout";

const machine = (id: string, node: string | null, changes: Partial<Machine> = {}) =>
    ({ id, name: id, site_id: null, site_name: null, node_id: node, node_name: node, vault_id: node && "v1", copies: [], health: "healthy", rpo_seconds: 1, ...changes }) as Machine;
const nodes = ["n1", "n2"].map((id) => ({ id, name: id, site_name: null, health: "healthy" }) as Node);
const vaults = [{ id: "v1", name: "v1", site_name: null, health: "healthy" } as Vault];

describe("the map", () => {
    it("makes one box of machines that go the same way, and one line with the worst lag", () => {
        const { boxes, lines } = layOut([machine("a", "n1"), machine("b", "n1", { rpo_seconds: 9, health: "critical" }), machine("c", "n2")], nodes, vaults);
        expect(boxes.filter((box) => box.layer === 0)).toHaveLength(2);
        expect(lines.find((line) => line.to === "n:n1")).toMatchObject({ machines: 2, lag: 9, health: "critical" });
        expect(lines.filter((line) => line.to === "v:v1")).toHaveLength(2);
    });

    it("never puts two boxes of a layer over each other", () => {
        const { boxes } = layOut([machine("a", "n2"), machine("b", "n1"), machine("c", null)], nodes, vaults);
        for (const layer of [0, 1, 2]) {
            const ys = boxes.filter((box) => box.layer === layer).map((box) => box.y).sort((a, b) => a - b);
            ys.slice(1).forEach((y, i) => expect(y - (ys[i] ?? 0)).toBeGreaterThanOrEqual(100));
        }
    });

    describe("of copies", () => {
        const copy = (vault_id: string, behind_seconds: number | null, state = "following") => ({ vault_id, vault_name: vault_id, state, behind_seconds }) as Machine["copies"][number];
        const all = ["v1", "v2", "v3"].map((id) => ({ id, name: id, site_name: null, health: "healthy" }) as Vault);
        const copyLines = (machines: Machine[]) => layOut(machines, nodes, all).lines.filter((line) => line.lane !== undefined);

        it("has one line from vault to vault, with its machines, their worst lag and health", () => {
            const lines = copyLines([
                machine("a", "n1", { copies: [copy("v2", 4), copy("v3", null, "initial")] }),
                machine("b", "n1", { copies: [copy("v2", 40)] }),
                machine("c", "n1", { copies: [copy("v2", 2, "failing"), copy("v3", 1, "ending")] }),
            ]);
            expect(lines.find((line) => line.to === "v:v2")).toMatchObject({ from: "v:v1", machines: 3, lag: 40, health: "critical" });
            expect(lines.find((line) => line.to === "v:v3")).toMatchObject({ from: "v:v1", machines: 1, lag: null, health: "unknown" });
        });

        it("draws lines that run beside each other in lanes of their own, the short ones next to the vaults", () => {
            const to = (vault: string, ...copies: string[]) => machine(vault, "n1", { vault_id: vault, copies: copies.map((id) => copy(id, 1)) });
            const lane = (machines: Machine[]) => Object.fromEntries(copyLines(machines).map((line) => [line.id, line.lane]));
            expect(lane([to("v1", "v2"), to("v2", "v3")])).toEqual({ "v:v1>v:v2": 0, "v:v2>v:v3": 0 });
            expect(lane([to("v1", "v2"), to("v2", "v1")])).toEqual({ "v:v1>v:v2": 0, "v:v2>v:v1": 1 });
            expect(lane([to("v1", "v3", "v2")])).toEqual({ "v:v1>v:v2": 0, "v:v1>v:v3": 1 });
        });

        it("make all of the map smaller, and its frame lower with it", () => {
            const boxes = [0, 1, 9].map((row) => ({ id: `m:${row}`, y: row * 110 }) as Box);
            const lanes = (...all: number[]) => all.map((lane) => ({ lane }) as Line);
            expect(rowsOf(boxes, [{} as Line])).toBe(10);
            expect(rowsOf([], [])).toBe(1);
            const [one, many] = [rowsOf(boxes, lanes(0)), rowsOf(boxes, lanes(0, 0, 5))];
            expect(one).toBeLessThan(10);
            expect(many).toBeLessThan(one);
            expect(many).toBeGreaterThan(5);
        });

        it("leave the places of the boxes alone, and go to no vault that is not there", () => {
            const bare = layOut([machine("a", "n1")], nodes, all);
            const copied = layOut([machine("a", "n1", { copies: [copy("v3", 1), copy("gone", 1)] })], nodes, all);
            const places = (plan: { boxes: { id: string; x: number; y: number }[] }) => plan.boxes.map(({ id, x, y }) => [id, x, y]);
            expect(places(copied)).toEqual(places(bare));
            expect(copied.lines.filter((line) => line.lane !== undefined).map((line) => line.to)).toEqual(["v:v3"]);
        });
    });

    it("draws no line to what is not there", () => {
        const { lines } = layOut([machine("a", "gone"), machine("b", null)], nodes, vaults);
        expect(lines).toEqual([]);
    });
});
