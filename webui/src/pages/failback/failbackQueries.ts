// SPDX-License-Identifier: Apache-2.0
import { queryOptions } from "@tanstack/react-query";

import { api, call } from "../../api/client";
import type { components } from "../../api/schema";

export type Preview = components["schemas"]["FailbackPreview"];
export type FailbackRequest = components["schemas"]["FailoverFailback"];

/** As it is when it is asked for: once the failback has begun there is nothing to preview any more. */
export const previewQuery = (id: string) =>
    queryOptions({
        queryKey: ["failback-preview", id],
        queryFn: () => call(api.GET("/api/v1/failovers/{failover_id}/failback", { params: { path: { failover_id: id } } })),
        retry: false,
        staleTime: Infinity,
        gcTime: 0,
    });

export const failbackCheckQuery = (id: string, body: FailbackRequest) =>
    queryOptions({
        queryKey: ["failback-check", id, body],
        queryFn: async () => {
            await call(api.POST("/api/v1/failovers/{failover_id}/failback", { params: { path: { failover_id: id }, query: { dry_run: true } }, body }));
            return true;
        },
        retry: false,
        staleTime: 0,
    });
