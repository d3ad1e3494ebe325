// SPDX-License-Identifier: Apache-2.0
//
// What the console asks for, each under a key whose first word live.ts knows. Values that move without an event (RPO, rates) are
// asked for again every few seconds; the browser stops that in tabs that nobody looks at.
import { queryOptions } from "@tanstack/react-query";

import { api, call, callAll } from "./client";
import type { components } from "./schema";

export type Machine = components["schemas"]["Machine"];
export type Job = components["schemas"]["Job"];
export type Disk = components["schemas"]["Disk"];
export type Policy = components["schemas"]["Policy"];
export type Site = components["schemas"]["Site"];
export type Node = components["schemas"]["Node"];
export type Overview = components["schemas"]["Overview"];
export type Vault = components["schemas"]["Vault"];

export type Alert = components["schemas"]["Alert"];
export type Point = components["schemas"]["Point"];
export type History = components["schemas"]["History"];

const MOVING_MS = 3000;
/** A long list costs more to fetch and to draw: it moves more slowly. */
const LONG_LIST = 300;
const LONG_LIST_MS = 10_000;

export const machinesQuery = queryOptions({
    queryKey: ["machines"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/machines", { params: { query: { limit: 500, cursor } } })),
    // Comparing a thousand machines member by member takes longer than drawing the few that are in view.
    structuralSharing: false,
    refetchInterval: (query) => ((query.state.data?.length ?? 0) > LONG_LIST ? LONG_LIST_MS : MOVING_MS),
});

export const machineQuery = (id: string) =>
    queryOptions({
        queryKey: ["machine", id],
        queryFn: () => call(api.GET("/api/v1/machines/{machine_id}", { params: { path: { machine_id: id } } })),
        refetchInterval: MOVING_MS,
    });

export const disksQuery = (id: string) =>
    queryOptions({
        queryKey: ["machine", id, "disks"],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/machines/{machine_id}/disks", { params: { path: { machine_id: id }, query: { limit: 500, cursor } } })),
    });

export const overviewQuery = queryOptions({ queryKey: ["overview"], queryFn: () => call(api.GET("/api/v1/overview")), refetchInterval: 5000 });

export const activeJobsQuery = queryOptions({
    queryKey: ["jobs", "active"],
    queryFn: async () => {
        const [running, queued, waiting] = await Promise.all(
            (["running", "queued", "waiting_for_input"] as const).map((status) => call(api.GET("/api/v1/jobs", { params: { query: { status, limit: 50 } } }))),
        );
        return [...(waiting?.items ?? []), ...(running?.items ?? []), ...(queued?.items ?? [])];
    },
    refetchInterval: (query) => (query.state.data?.length ? 2000 : 10_000),
});

export const historyQuery = (id: string, hours: number) =>
    queryOptions({
        queryKey: ["machine", id, "history", hours],
        queryFn: () => call(api.GET("/api/v1/machines/{machine_id}/history", { params: { path: { machine_id: id }, query: { from: new Date(Date.now() - hours * 3_600_000).toISOString() } } })),
        refetchInterval: 30_000,
        placeholderData: (before) => before,
    });

/** The newest point of the machine at or before a moment. */
export const pointAtQuery = (id: string, moment: number) =>
    queryOptions({
        queryKey: ["machine", id, "point-at", moment],
        queryFn: () => call(api.GET("/api/v1/machines/{machine_id}/points", { params: { path: { machine_id: id }, query: { before: new Date(moment + 1).toISOString(), limit: 10, sort: "-sequence" } } })),
        placeholderData: (before) => before,
    });

/** Points within a span, oldest first: all of them up to `most`. */
export const pointsQuery = (id: string, from: number, to: number, kind?: string) =>
    queryOptions({
        queryKey: ["machine", id, "points", from, to, kind],
        queryFn: () =>
            callAll(
                (cursor) =>
                    api.GET("/api/v1/machines/{machine_id}/points", {
                        params: { path: { machine_id: id }, query: { after: new Date(from).toISOString(), before: new Date(to).toISOString(), kind, limit: 500, cursor, sort: "sequence" } },
                    }),
                1500,
            ),
        placeholderData: (before) => before,
    });

export const machineEventsQuery = (id: string) =>
    queryOptions({ queryKey: ["events", id], queryFn: () => call(api.GET("/api/v1/events", { params: { query: { machine_id: id, limit: 100 } } })) });

export const alertsQuery = (query: { state?: string; severity?: string; code?: string; machine_id?: string }) =>
    queryOptions({
        queryKey: ["alerts", query],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/alerts", { params: { query: { ...(query as object), limit: 500, cursor } } }), 2000),
        refetchInterval: 10_000,
    });

export const policiesQuery = queryOptions({
    queryKey: ["policies"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/policies", { params: { query: { limit: 500, cursor } } })),
});

export const sitesQuery = queryOptions({
    queryKey: ["sites"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/sites", { params: { query: { limit: 500, cursor } } })),
});

export const nodesQuery = queryOptions({
    queryKey: ["nodes"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/nodes", { params: { query: { limit: 500, cursor } } })),
    refetchInterval: 5000,
});

export const vaultsQuery = queryOptions({
    queryKey: ["vaults"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/vaults", { params: { query: { limit: 500, cursor } } })),
    refetchInterval: 5000,
});

export const isOver = (job: Job) => job.status === "succeeded" || job.status === "failed" || job.status === "cancelled";

export const jobQuery = (id: string) =>
    queryOptions({
        queryKey: ["job", id],
        queryFn: () => call(api.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: id } } })),
        refetchInterval: (query) => (query.state.data && isOver(query.state.data) ? false : 1000),
    });
