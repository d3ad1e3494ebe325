// SPDX-License-Identifier: Apache-2.0
import { keepPreviousData, queryOptions } from "@tanstack/react-query";

import { api, call, callAll } from "../../api/client";
import type { components } from "../../api/schema";

export type Copy = components["schemas"]["Copy"];
export type CopyPoint = components["schemas"]["CopyPoint"];

/** How far a copy is moves without an event. */
const MOVING_MS = 3000;

export const copiesQuery = (machineId: string) =>
    queryOptions({
        queryKey: ["machine", machineId, "copies"],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/machines/{machine_id}/copies", { params: { path: { machine_id: machineId }, query: { limit: 500, cursor } } })),
        refetchInterval: MOVING_MS,
    });

export const vaultCopiesQuery = (vaultId: string) =>
    queryOptions({
        queryKey: ["vaults", vaultId, "copies"],
        queryFn: () => callAll((cursor) => api.GET("/api/v1/vaults/{vault_id}/copies", { params: { path: { vault_id: vaultId }, query: { limit: 500, cursor } } })),
        refetchInterval: MOVING_MS,
    });

/** The newest points that a copy has, `limit` of them, and whether there are more. */
export const copyPointsQuery = (machineId: string, vaultId: string, limit: number) =>
    queryOptions({
        queryKey: ["machine", machineId, "copies", vaultId, "points", limit],
        queryFn: () => call(api.GET("/api/v1/machines/{machine_id}/copies/{vault_id}/points", { params: { path: { machine_id: machineId, vault_id: vaultId }, query: { limit, sort: "-sequence" } } })),
        placeholderData: keepPreviousData,
        refetchInterval: MOVING_MS,
    });

const asked = <T>(key: unknown[], ask: () => Promise<T>) =>
    queryOptions({
        queryKey: ["copy-check", ...key],
        queryFn: async () => {
            await ask();
            return true;
        },
        retry: false,
        staleTime: 0,
        gcTime: 0,
    });

const dry_run = true;

/** What the hub says before it is asked to do it. */
export const createCheck = (machineId: string, vault: string) =>
    asked(["create", machineId, vault], () => call(api.POST("/api/v1/machines/{machine_id}/copies", { params: { path: { machine_id: machineId }, query: { dry_run } }, body: { vault } })));

export const takeOverCheck = (copy: Copy) =>
    asked(["use", copy.machine_id, copy.vault_id], () => call(api.POST("/api/v1/machines/{machine_id}/copies/{vault_id}/use", { params: { path: { machine_id: copy.machine_id, vault_id: copy.vault_id }, query: { dry_run } }, body: { confirm: copy.machine_name } })));

export const removeCheck = (copy: Copy, forget: boolean) =>
    asked(["remove", copy.machine_id, copy.vault_id, forget], () => call(api.DELETE("/api/v1/machines/{machine_id}/copies/{vault_id}", { params: { path: { machine_id: copy.machine_id, vault_id: copy.vault_id }, query: { forget, dry_run } } })));
