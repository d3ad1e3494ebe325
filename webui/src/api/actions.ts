// SPDX-License-Identifier: Apache-2.0
//
// Changes that several places ask for. Each answers with the job that does it.
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { api, call } from "./client";

const path = (machine_id: string) => ({ path: { machine_id } });

export type MachineAction =
    | { kind: "protect"; disks: "all-eligible" | string[]; policyId?: string; vaultId?: string }
    | { kind: "unprotect" }
    | { kind: "resync" }
    | { kind: "point"; point: "crash" | "filesystem" | "application"; tag?: string };

export function requestAction(id: string, action: MachineAction) {
    switch (action.kind) {
        case "protect":
            return call(api.POST("/api/v1/machines/{machine_id}/protect", { params: path(id), body: { disks: action.disks, policy_id: action.policyId, vault_id: action.vaultId } }));
        case "unprotect":
            return call(api.POST("/api/v1/machines/{machine_id}/unprotect", { params: path(id), body: {} }));
        case "resync":
            return call(api.POST("/api/v1/machines/{machine_id}/resync", { params: path(id), body: {} }));
        case "point":
            return call(api.POST("/api/v1/machines/{machine_id}/points", { params: path(id), body: { kind: action.point, tag: action.tag } }));
    }
}

export type DiskAction = "add" | "exclude" | "resize";

/** Disks of a machine under protection: one more, one less, or looked at for another size. */
export function useDiskAction() {
    const client = useQueryClient();
    return useMutation({
        mutationFn: ({ machineId, action, disks }: { machineId: string; action: DiskAction; disks: string[] }) =>
            call(api.POST(`/api/v1/machines/{machine_id}/disks/${action}`, { params: path(machineId), body: { disks } })),
        onSettled: () => client.invalidateQueries({ predicate: ({ queryKey }) => ["machines", "machine", "jobs", "overview"].includes(String(queryKey[0])) }),
    });
}
