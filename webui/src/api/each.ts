// SPDX-License-Identifier: Apache-2.0
//
// The same request for many machines, alerts ...: one after the other, each for itself, so that one that the hub refuses costs no other one. What
// became of each is kept; nothing ends in silence.
import { asProblem, type ProblemError, UNREACHABLE } from "./problem";

/** already: nothing was asked for, since it was so; held: a second person must approve; skipped: the hub was gone, or somebody ended it. */
export const OUTCOMES = ["refused", "held", "skipped", "already", "done"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** What is asked for: `name` is what people call it. */
export interface Named {
    id: string;
    name: string;
}

export interface Result<T extends Named> {
    item: T;
    outcome: Outcome;
    problem?: ProblemError;
}

/** After these the next one would be answered in the same way. */
const endsAll = (problem: ProblemError) => problem.code === UNREACHABLE || problem.status === 401;

async function resultOf<T extends Named>(item: T, ask: (item: T) => Promise<Outcome>): Promise<Result<T>> {
    try {
        return { item, outcome: await ask(item) };
    } catch (error) {
        const problem = asProblem(error);
        return { item, outcome: problem.code === "approval_required" ? "held" : "refused", problem };
    }
}

/** `signal` ends it between two of them. `onResult` is told how many have their results. */
export async function askEach<T extends Named>(items: T[], ask: (item: T) => Promise<Outcome>, signal: AbortSignal, onResult: (done: number) => void): Promise<Result<T>[]> {
    const results: Result<T>[] = [];
    let isOver = false;
    for (const item of items) {
        const result: Result<T> = isOver || signal.aborted ? { item, outcome: "skipped" } : await resultOf(item, ask);
        isOver ||= result.problem !== undefined && endsAll(result.problem);
        results.push(result);
        onResult(results.length);
    }
    return results;
}

export const isWell = ({ outcome }: { outcome: Outcome }) => outcome === "done" || outcome === "already";
