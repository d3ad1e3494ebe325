// SPDX-License-Identifier: Apache-2.0
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";

import { api, callAll, callSome } from "../../api/client";
import { isOver } from "../../api/queries";

const SOME = 1000;
const LIVE_MS = 2000;
const QUIET_MS = 10_000;

/** Those in any of these states (separated by commas), or all, the latest first, a thousand at a time. The hub chooses: an old job that still waits is behind thousands of others. What is
 * asked for again is all that was asked for, so the more of it there is, the less often. */
export const jobsQuery = (status?: string) =>
    infiniteQueryOptions({
        queryKey: ["jobs", "list", status],
        queryFn: ({ pageParam }) => callSome((cursor) => api.GET("/api/v1/jobs", { params: { query: { status, limit: 500, cursor } } }), pageParam, SOME),
        initialPageParam: undefined as string | undefined,
        getNextPageParam: (last) => last.next,
        refetchInterval: (query) => {
            const pages = query.state.data?.pages ?? [];
            return (pages.some(({ items }) => items.some((job) => !isOver(job))) ? LIVE_MS : QUIET_MS) * Math.max(1, pages.length);
        },
    });

export const jobLogQuery = (id: string, isLive: boolean) =>
    queryOptions({
        queryKey: ["job", id, "log"],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/jobs/{job_id}/log", { params: { path: { job_id: id }, query: { limit: 500, cursor } } })),
        refetchInterval: isLive ? 1000 : false,
    });
