// SPDX-License-Identifier: Apache-2.0
import { queryOptions } from "@tanstack/react-query";

import { api, callAll } from "../../api/client";
import { isOver } from "../../api/queries";

/** The latest thousand in any of these states (separated by commas), or of all. The hub chooses: an old job that still waits is behind thousands of others. */
export const jobsQuery = (status?: string) =>
    queryOptions({
        queryKey: ["jobs", "list", status],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/jobs", { params: { query: { status, limit: 500, cursor } } }), 1000),
        refetchInterval: (query) => (query.state.data?.some((job) => !isOver(job)) ? 2000 : 10_000),
    });

export const jobLogQuery = (id: string, isLive: boolean) =>
    queryOptions({
        queryKey: ["job", id, "log"],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/jobs/{job_id}/log", { params: { path: { job_id: id }, query: { limit: 500, cursor } } })),
        refetchInterval: isLive ? 1000 : false,
    });
