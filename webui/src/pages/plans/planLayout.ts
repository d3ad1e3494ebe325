// SPDX-License-Identifier: Apache-2.0
//
// A recovery plan as a picture from left to right: a step stands in the column after the last of those that it waits for, and each column is filled from the
// top in the order of the plan. Groups become edges here as in the hub: without `after` a group waits for the one before. Pure.
import type { components } from "../../api/schema";

export type PlanStep = components["schemas"]["PlanStep"];
export type PlanGroup = components["schemas"]["PlanGroup"];

export interface StepBox {
    id: string;
    group: string;
    type: PlanStep["type"];
    /** What the step is about: its machine, script, question. */
    text: string;
    after: string[];
    x: number;
    y: number;
}

const COLUMN_X = 260;
const ROW_Y = 110;

const textOf = (step: PlanStep) => step.machine ?? step.script ?? step.url ?? step.question ?? "";

/** All steps with what they wait for, those of groups too. Names that are not there are left out. */
export function stepsOf(groups: PlanGroup[]): StepBox[] {
    const names = new Set(groups.flatMap((group) => group.steps.map((step) => step.name)));
    const members = new Map(groups.map((group) => [group.name, group.steps.map((step) => step.name)]));
    return groups.flatMap((group, index) => {
        const before = group.after ?? (index > 0 ? [groups[index - 1]?.name ?? ""] : []);
        const byGroup = before.flatMap((name) => members.get(name) ?? []);
        return group.steps.map((step) => ({
            id: step.name, group: group.name, type: step.type, text: textOf(step), x: 0, y: 0,
            after: [...new Set([...byGroup, ...(step.after ?? [])])].filter((name) => names.has(name)),
        }));
    });
}

/** Column of each step; in a cycle it stops counting at the number of steps. */
function columns(boxes: StepBox[]): Map<string, number> {
    const column = new Map(boxes.map((box) => [box.id, 0]));
    for (let round = 0; round < boxes.length; round++) {
        let moved = false;
        for (const box of boxes) {
            const wanted = Math.max(0, ...box.after.map((name) => (column.get(name) ?? 0) + 1));
            if (wanted > (column.get(box.id) ?? 0) && wanted <= boxes.length) {
                column.set(box.id, wanted);
                moved = true;
            }
        }
        if (!moved) break;
    }
    return column;
}

export function layOutSteps(boxes: StepBox[]): StepBox[] {
    const column = columns(boxes);
    const filled = new Map<number, number>();
    return boxes.map((box) => {
        const x = column.get(box.id) ?? 0;
        const row = filled.get(x) ?? 0;
        filled.set(x, row + 1);
        return { ...box, x: x * COLUMN_X, y: row * ROW_Y };
    });
}

/** Lines that another path does not tell already: of a, b and c in a row only a-b and b-c are drawn. */
export function linesOf(boxes: StepBox[]): { from: string; to: string }[] {
    const after = new Map(boxes.map((box) => [box.id, box.after]));
    const reaches = (from: string, wanted: string, depth: number): boolean =>
        depth > 0 && (after.get(from) ?? []).some((name) => name === wanted || reaches(name, wanted, depth - 1));
    return boxes.flatMap((box) =>
        box.after
            .filter((name) => !box.after.some((other) => other !== name && reaches(other, name, 12)))
            .map((name) => ({ from: name, to: box.id })),
    );
}
