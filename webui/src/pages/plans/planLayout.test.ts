// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import { layOutSteps, linesOf, type PlanGroup, stepsOf } from "./planLayout";

const gate = (name: string, after?: string[]) => ({ name, type: "gate" as const, question: `${name}?`, ...(after && { after }) });
const groups: PlanGroup[] = [
    { name: "data", steps: [gate("db"), gate("ready", ["db"])] },
    { name: "front", steps: [gate("web"), gate("look", ["web"])] },
    { name: "aside", after: [], steps: [gate("mail")] },
];

describe("a plan as a picture", () => {
    it("lets a group wait for the one before unless it says otherwise", () => {
        const after = Object.fromEntries(stepsOf(groups).map((box) => [box.id, box.after]));
        expect(after).toEqual({ db: [], ready: ["db"], web: ["db", "ready"], look: ["db", "ready", "web"], mail: [] });
    });

    it("puts each step right of all that it waits for, and none on another", () => {
        const boxes = layOutSteps(stepsOf(groups));
        const of = (id: string) => boxes.find((box) => box.id === id);
        for (const box of boxes) for (const name of box.after) expect(of(name)?.x).toBeLessThan(box.x);
        expect(new Set(boxes.map((box) => `${box.x}/${box.y}`)).size).toBe(boxes.length);
        expect(of("mail")?.x).toBe(0);
    });

    it("draws no line that another path tells", () => {
        const lines = linesOf(stepsOf(groups)).map((line) => `${line.from}>${line.to}`);
        expect(lines.sort()).toEqual(["db>ready", "ready>web", "web>look"]);
    });

    it("survives a cycle and names that are not there", () => {
        const cycle: PlanGroup[] = [{ name: "g", steps: [gate("a", ["b"]), gate("b", ["a", "nobody"])] }];
        expect(layOutSteps(stepsOf(cycle))).toHaveLength(2);
        expect(linesOf(stepsOf(cycle)).length).toBeLessThanOrEqual(2);
    });
});
