// SPDX-License-Identifier: Apache-2.0
import { QueryClient } from "@tanstack/react-query";
import { afterEach, describe, expect, it, vi } from "vitest";

import { type HubEvent, keysTouchedBy } from "../../api/live";
import type { Job } from "../../api/queries";
import { jobsQuery } from "./jobQueries";
import { isShown, SHOW, SHOW_BEHIND, STATUS } from "./jobShow";

const job = (changes: Partial<Job>) => ({ id: "1", status: "failed", ...changes }) as Job;

describe("the lists of jobs", () => {
    afterEach(() => void vi.unstubAllGlobals());

    it("ask the hub for the states that they show", async () => {
        const asked: (string | null)[] = [];
        vi.stubGlobal("fetch", (request: Request) => {
            asked.push(new URL(request.url).searchParams.get("status"));
            return Promise.resolve(Response.json({ items: [] }));
        });
        const client = new QueryClient();
        for (const show of [...SHOW, ...SHOW_BEHIND]) await client.infiniteQuery(jobsQuery(STATUS[show]));
        expect(asked).toEqual([null, "queued,running,waiting_for_input", "failed", "queued,running", "waiting_for_input", "failed"]);
    });

    it("go on to the oldest job of a filter, a thousand at a time", async () => {
        const total = 1700;
        const asked: string[] = [];
        vi.stubGlobal("fetch", (request: Request) => {
            const query = new URL(request.url).searchParams;
            const from = Number(query.get("cursor") ?? 0);
            asked.push(`${query.get("status")} ${from}`);
            const items = Array.from({ length: Math.min(500, total - from) }, (_, i) => job({ id: String(from + i) }));
            return Promise.resolve(Response.json({ items, ...(from + 500 < total && { next: String(from + 500) }) }));
        });
        const options = { ...jobsQuery("failed"), retry: false };
        const first = await new QueryClient().infiniteQuery({ ...options, pages: 1 });
        expect(first.pages.map(({ items }) => items.length)).toEqual([1000]);
        expect(asked).toEqual(["failed 0", "failed 500"]);
        const whole = await new QueryClient().infiniteQuery({ ...options, pages: 3 });
        expect(whole.pages.map(({ items }) => items.length)).toEqual([1000, 700]);
        expect(new Set(whole.pages.flatMap(({ items }) => items.map(({ id }) => id))).size).toBe(total);
    });

    it("fetch again with the news of any job", () => {
        const touched = keysTouchedBy({ code: "job.failed", job_id: "1" } as HubEvent);
        for (const show of [...SHOW, ...SHOW_BEHIND]) expect(touched).toContain(jobsQuery(STATUS[show]).queryKey[0]);
    });

    it("leave out of a day's failed jobs those that failed before", () => {
        const now = Date.parse("2026-01-02T12:00:00Z");
        expect(isShown(job({ finished_at: "2026-01-01T12:00:01Z" }), "failed_24h", now)).toBe(true);
        expect(isShown(job({ finished_at: "2026-01-01T12:00:00Z" }), "failed_24h", now)).toBe(false);
        expect(isShown(job({ finished_at: "2025-01-01T00:00:00Z" }), "failed", now)).toBe(true);
    });
});
