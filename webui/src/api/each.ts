// SPDX-License-Identifier: Apache-2.0
//
// The same request for many machines: one after the other, each for itself, so that one that the hub refuses costs no other one. What became of
// each is kept; nothing ends in silence.
import { asProblem, type ProblemError, UNREACHABLE } from "./problem";
import type { Machine } from "./queries";

/** already: nothing was asked for, since it was so; held: a second person must approve; skipped: the hub was gone, or somebody ended it. */
export const OUTCOMES = ["refused", "held", "skipped", "already", "done"] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface Result {
    machine: Machine;
    outcome: Outcome;
    problem?: ProblemError;
}

/** After these the next machine would be answered in the same way. */
const endsAll = (problem: ProblemError) => problem.code === UNREACHABLE || problem.status === 401;

async function resultOf(machine: Machine, ask: (machine: Machine) => Promise<Outcome>): Promise<Result> {
    try {
        return { machine, outcome: await ask(machine) };
    } catch (error) {
        const problem = asProblem(error);
        return { machine, outcome: problem.code === "approval_required" ? "held" : "refused", problem };
    }
}

/** `signal` ends it between two machines. `onResult` is told how many have their results. */
export async function askEach(machines: Machine[], ask: (machine: Machine) => Promise<Outcome>, signal: AbortSignal, onResult: (done: number) => void): Promise<Result[]> {
    const results: Result[] = [];
    let isOver = false;
    for (const machine of machines) {
        const result: Result = isOver || signal.aborted ? { machine, outcome: "skipped" } : await resultOf(machine, ask);
        isOver ||= result.problem !== undefined && endsAll(result.problem);
        results.push(result);
        onResult(results.length);
    }
    return results;
}

export const isWell = ({ outcome }: Result) => outcome === "done" || outcome === "already";
