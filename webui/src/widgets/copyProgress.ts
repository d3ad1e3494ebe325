// SPDX-License-Identifier: Apache-2.0
import type { Machine } from "../api/queries";

type Copying = Pick<Machine, "state" | "initial_done_bytes" | "initial_total_bytes">;

/** The first copy, or the comparison with the vault, goes on. */
export const isCopying = (m: Copying) => (m.state === "initial_replication" || m.state === "resynchronizing") && m.initial_total_bytes > 0;

/** How much of it is done, 0 to 1. */
export const copyShare = (m: Omit<Copying, "state">) => Math.min(1, m.initial_done_bytes / Math.max(1, m.initial_total_bytes));
