// SPDX-License-Identifier: Apache-2.0
//
// The lists of jobs: what each asks the hub for, and what of that it shows.
import type { Job } from "../../api/queries";

export const SHOW = ["all", "open", "failed"] as const;
/** What only numbers of the overview lead to; offered while it is shown. */
export const SHOW_BEHIND = ["running", "waiting", "failed_24h"] as const;
export type Show = (typeof SHOW)[number] | (typeof SHOW_BEHIND)[number];

/** As the API takes them: any of these, undefined for all. */
export const STATUS: Record<Show, string | undefined> = {
    all: undefined,
    open: "queued,running,waiting_for_input",
    running: "queued,running",
    waiting: "waiting_for_input",
    failed: "failed",
    failed_24h: "failed",
};

const DAY_MS = 86_400_000;

/** What the API cannot be asked for: of the failed ones those of a day. */
export function isShown(job: Job, show: Show, now = Date.now()): boolean {
    return show !== "failed_24h" || now - new Date(job.finished_at ?? 0).getTime() < DAY_MS;
}
