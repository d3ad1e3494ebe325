// SPDX-License-Identifier: Apache-2.0
//
// What went wrong with a request, in the hub's words: RFC 9457 with a stable code and what the reader can do about it.
import type { components } from "./schema";

export type Problem = components["schemas"]["Problem"];

export class ProblemError extends Error {
    constructor(
        readonly status: number,
        readonly code: string,
        readonly detail: string,
        readonly correction: string,
        readonly faults: { pointer: string; detail: string }[] = [],
        readonly requestId = "",
    ) {
        super(detail);
        this.name = "ProblemError";
    }
}

/** The code of a request that no hub answered. */
export const UNREACHABLE = "unreachable";

export function problemOf(status: number, body: unknown): ProblemError {
    const p = (typeof body === "object" && body !== null ? body : {}) as Partial<Problem>;
    const faults = (p.errors ?? []).map((f) => ({ pointer: f.pointer, detail: f.detail }));
    return new ProblemError(status, p.code ?? `http_${status}`, p.detail ?? p.title ?? "", p.correction ?? "", faults, p.request_id);
}

export function asProblem(error: unknown): ProblemError {
    if (error instanceof ProblemError) return error;
    return new ProblemError(0, UNREACHABLE, error instanceof Error ? error.message : String(error), "");
}
