// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import type { Machine, Node, Vault } from "../../api/queries";
import { layOut } from "./mapLayout";

const machine = (id: string, node: string | null, changes: Partial<Machine> = {}) =>
    ({ id, name: id, site_id: null, site_name: null, node_id: node, node_name: node, vault_id: node && "v1", health: "healthy", rpo_seconds: 1, ...changes }) as Machine;
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

    it("draws no line to what is not there", () => {
        const { lines } = layOut([machine("a", "gone"), machine("b", null)], nodes, vaults);
        expect(lines).toEqual([]);
    });
});
