// SPDX-License-Identifier: Apache-2.0
import { queryOptions } from "@tanstack/react-query";

import { api, callAll } from "../../api/client";
import { isOver } from "../../api/queries";

/** The latest thousand. */
export const jobsQuery = queryOptions({
    queryKey: ["jobs", "all"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/jobs", { params: { query: { limit: 500, cursor } } }), 1000),
    refetchInterval: (query) => (query.state.data?.some((job) => !isOver(job)) ? 2000 : 10_000),
});

export const jobLogQuery = (id: string, isLive: boolean) =>
    queryOptions({
        queryKey: ["job", id, "log"],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/jobs/{job_id}/log", { params: { path: { job_id: id }, query: { limit: 500, cursor } } })),
        refetchInterval: isLive ? 1000 : false,
    });
