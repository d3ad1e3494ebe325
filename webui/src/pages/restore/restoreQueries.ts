// SPDX-License-Identifier: Apache-2.0
import { queryOptions } from "@tanstack/react-query";

import { api, call } from "../../api/client";
import type { components } from "../../api/schema";

export type RestoreRequest = components["schemas"]["MachineRestore"];

/** The hub's own checks, all of them, with nothing done. */
export const restoreCheckQuery = (machine: string, body: RestoreRequest) =>
    queryOptions({
        queryKey: ["restore-check", machine, body],
        queryFn: async () => {
            await call(api.POST("/api/v1/machines/{machine_id}/restore", { params: { path: { machine_id: machine }, query: { dry_run: true } }, body }));
            return true;
        },
        retry: false,
        staleTime: 0,
    });
