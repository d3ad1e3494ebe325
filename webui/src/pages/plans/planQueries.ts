// SPDX-License-Identifier: Apache-2.0
import { queryOptions } from "@tanstack/react-query";

import { api, call, callAll } from "../../api/client";
import type { components } from "../../api/schema";

export type Plan = components["schemas"]["Plan"];
export type PlanBody = components["schemas"]["PlanCreate"];
export type PlanRun = components["schemas"]["PlanRun"];
export type PlanReport = components["schemas"]["PlanReport"];
export type RunKind = PlanRun["kind"];
export const KINDS: RunKind[] = ["test", "planned", "unplanned", "failback"];

export const plansQuery = queryOptions({
    queryKey: ["plans"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/plans", { params: { query: { limit: 500, cursor } } })),
    refetchInterval: 10_000,
});

export const planQuery = (id: string) =>
    queryOptions({ queryKey: ["plans", id], queryFn: () => call(api.GET("/api/v1/plans/{plan_id}", { params: { path: { plan_id: id } } })) });

export const planRunsQuery = queryOptions({
    queryKey: ["plan-runs"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/plan-runs", { params: { query: { limit: 500, cursor } } }), 1000),
    refetchInterval: (query) => (query.state.data?.some((run) => run.state === "running") ? 2000 : 10_000),
});

export const planReportQuery = (id: string) =>
    queryOptions({
        queryKey: ["plan-runs", id],
        queryFn: () => call(api.GET("/api/v1/plan-runs/{run_id}", { params: { path: { run_id: id } } })),
        refetchInterval: (query) => (query.state.data?.state === "running" ? 1000 : 5000),
    });
