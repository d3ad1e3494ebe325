// SPDX-License-Identifier: Apache-2.0
import { queryOptions } from "@tanstack/react-query";

import { api, call, callAll } from "../../api/client";
import type { components } from "../../api/schema";

const MOVING_MS = 1500;
const SCREEN_MS = 3000;
const NO_SCREEN_MS = 15_000;

export const targetsQuery = queryOptions({ queryKey: ["targets"], queryFn: () => callAll((cursor) => api.GET("/api/v1/targets", { params: { query: { limit: 500, cursor } } })) });

export const failoverQuery = (id: string) =>
    queryOptions({
        queryKey: ["failovers", id],
        queryFn: () => call(api.GET("/api/v1/failovers/{failover_id}", { params: { path: { failover_id: id } } })),
        refetchInterval: MOVING_MS,
    });

const asDataUrl = (picture: Blob) =>
    new Promise<string>((resolve, reject) => {
        const reader = new FileReader();
        reader.onload = () => resolve(typeof reader.result === "string" ? reader.result : "");
        reader.onerror = () => reject(new Error("the picture cannot be read"));
        reader.readAsDataURL(picture);
    });

/** What the replica's screen shows, again and again; less often where there is none. What it showed last stays. */
export const screenQuery = (id: string) =>
    queryOptions({
        queryKey: ["screens", id],
        queryFn: async () => asDataUrl(await call(api.GET("/api/v1/failovers/{failover_id}/screenshot", { params: { path: { failover_id: id } }, parseAs: "blob" }))),
        refetchInterval: (query) => (query.state.error ? NO_SCREEN_MS : SCREEN_MS),
        retry: false,
        gcTime: 0,
    });

/** The failover that a job begins; there is none before its first step. */
export const failoverOfJobQuery = (machine: string, job: string) =>
    queryOptions({
        queryKey: ["failovers", "of-job", job],
        queryFn: async () => {
            const { items } = await call(api.GET("/api/v1/failovers", { params: { query: { machine_id: machine, limit: 50 } } }));
            return items.find((one) => one.job_id === job)?.id ?? null;
        },
        refetchInterval: (query) => (query.state.data ? false : MOVING_MS),
    });

const NOT_OVER: readonly components["schemas"]["Failover"]["state"][] = ["starting", "running", "ending", "committed", "reprotected"];

/** The failover by which the machine is what it is: there is one at most that is no test and not over. */
export const presentFailoverQuery = (machine: string) =>
    queryOptions({
        queryKey: ["failovers", "present", machine],
        queryFn: async () => {
            const items = await callAll((cursor) => api.GET("/api/v1/failovers", { params: { query: { machine_id: machine, limit: 500, cursor } } }));
            return items.find((one) => one.kind !== "test" && NOT_OVER.includes(one.state))?.id ?? null;
        },
    });

/** The newest point of a machine, of one kind or any: as it was when it was asked for. What is chosen must not move on while somebody reads. */
export const newestPointQuery = (id: string, kind: string) =>
    queryOptions({
        queryKey: ["pinned-point", id, kind],
        queryFn: async () => (await call(api.GET("/api/v1/machines/{machine_id}/points", { params: { path: { machine_id: id }, query: { kind: kind || undefined, limit: 1, sort: "-sequence" } } }))).items[0] ?? null,
        staleTime: Infinity,
        gcTime: 0,
    });

/** Asks for everything but the doing: what would be refused is refused now. */
export const precheckQuery = (body: components["schemas"]["FailoverRequest"]) =>
    queryOptions({
        queryKey: ["failover-precheck", body],
        queryFn: async () => {
            await call(api.POST("/api/v1/failovers", { params: { query: { dry_run: true } }, body }));
            return true;
        },
        retry: false,
        staleTime: 0,
    });
