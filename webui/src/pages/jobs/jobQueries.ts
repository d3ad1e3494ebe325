// SPDX-License-Identifier: Apache-2.0
import { queryOptions } from "@tanstack/react-query";

import { api, call, callAll } from "../../api/client";
import type { Job } from "../../api/queries";

const isOver = (job: Job) => job.status === "succeeded" || job.status === "failed" || job.status === "cancelled";

/** The latest thousand. */
export const jobsQuery = queryOptions({
    queryKey: ["jobs", "all"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/jobs", { params: { query: { limit: 500, cursor } } }), 1000),
    refetchInterval: (query) => (query.state.data?.some((job) => !isOver(job)) ? 2000 : 10_000),
});

export const jobQuery = (id: string) =>
    queryOptions({
        queryKey: ["job", id],
        queryFn: () => call(api.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: id } } })),
        refetchInterval: (query) => (query.state.data && isOver(query.state.data) ? false : 1000),
    });

export const jobLogQuery = (id: string, isLive: boolean) =>
    queryOptions({
        queryKey: ["job", id, "log"],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/jobs/{job_id}/log", { params: { path: { job_id: id }, query: { limit: 500, cursor } } })),
        refetchInterval: isLive ? 1000 : false,
    });

export { isOver };
