// SPDX-License-Identifier: Apache-2.0
//
// The end of a failover: cleaning up a test with its outcome, committing or rolling back. What takes a replica away or makes it the machine asks for the
// machine's name first.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { machineQuery, vaultsQuery } from "../../api/queries";
import type { components } from "../../api/schema";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { Precheck } from "../../widgets/Precheck";
import { useVaultOptions } from "../copies/copyDialogs";

export type Failover = components["schemas"]["Failover"];
/** What is asked in a dialog; the way back has pages of its own. */
export type End = "cleanup" | "rollback" | "commit" | "reprotect";
export type Act = End | "failback";

export const isEnd = (act: Act): act is End => act !== "failback";

/** What can be done to it now. */
export function actsFor(failover: Failover): Act[] {
    if (failover.state === "committed") return ["reprotect"];
    if (failover.state === "reprotected") return ["failback"];
    if (failover.state !== "running") return [];
    return failover.kind === "test" ? ["cleanup"] : ["commit", "rollback"];
}

/** What the hub says before it is asked to protect the replica. */
const reprotectCheck = (id: string, vault: string) => ({
    queryKey: ["reprotect-check", id, vault],
    queryFn: async () => {
        await call(api.POST("/api/v1/failovers/{failover_id}/reprotect", { params: { path: { failover_id: id }, query: { dry_run: true } }, body: vault ? { vault } : {} }));
        return true;
    },
    retry: false,
    staleTime: 0,
    gcTime: 0,
});

/** A vault at the old site that keeps a copy from then on, or none. */
function OldVault({ failover, value, onChange }: { failover: Failover; value: string; onChange: (vault: string) => void }) {
    const { t } = useTranslation("failovers");
    const { data: machine } = useQuery(machineQuery(failover.machine_id));
    const { data: vaults = [] } = useQuery(vaultsQuery);
    const options = useVaultOptions(vaults.filter((vault) => !vault.simulated && vault.id !== (machine?.vault_id ?? failover.vault_id)));
    return <Field id="old-vault" label={t("oldVault.label")} hint={t("oldVault.hint")} value={value} onChange={onChange} options={[{ value: "", text: t("oldVault.none") }, ...options]} />;
}

interface EndDialogProps {
    act: End;
    failover: Failover;
    onClose: () => void;
    onBegun: (job: string) => void;
}

export function EndDialog({ act, failover, onClose, onBegun }: EndDialogProps) {
    const { t } = useTranslation("failovers");
    const client = useQueryClient();
    const [typed, setTyped] = useState("");
    const [outcome, setOutcome] = useState<"passed" | "failed">(failover.verdict === "failed" ? "failed" : "passed");
    const [notes, setNotes] = useState("");
    const [vault, setVault] = useState("");
    const check = useQuery({ ...reprotectCheck(failover.id, vault), enabled: act === "reprotect" });
    const isTyped = act === "commit" || act === "rollback";
    const path = { failover_id: failover.id };
    const mutation = useMutation({
        mutationFn: () =>
            act === "cleanup"
                ? call(api.POST("/api/v1/failovers/{failover_id}/cleanup", { params: { path }, body: { outcome, notes } }))
                : act === "reprotect"
                  ? call(api.POST("/api/v1/failovers/{failover_id}/reprotect", { params: { path }, body: vault ? { vault } : {} }))
                  : call(api.POST(`/api/v1/failovers/{failover_id}/${act}`, { params: { path } })),
        onSuccess: async (job) => {
            await client.invalidateQueries({ queryKey: ["failovers"] });
            onClose();
            onBegun(job.id);
        },
    });
    return (
        <FormDialog title={t(`act.${act}`)} text={t(`explain.${act}`)} submit={t(`act.${act}`)} isDanger={isTyped} isDisabled={act === "reprotect" ? !check.isSuccess : isTyped && typed !== failover.machine_name} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            {act === "cleanup" ? (
                <>
                    <Field id="outcome" label={t("outcome")} value={outcome} onChange={(value) => setOutcome(value as "passed" | "failed")} options={(["passed", "failed"] as const).map((value) => ({ value, text: t(`verdict.${value}`) }))} />
                    <Field id="notes" label={t("notes")} value={notes} onChange={setNotes} hint={t("notesHint")} />
                </>
            ) : act === "reprotect" ? (
                <>
                    <OldVault failover={failover} value={vault} onChange={setVault} />
                    <Precheck check={check} component="h2" />
                </>
            ) : isTyped && (
                <Field id="typed" label={t("typeName", { name: failover.machine_name })} value={typed} onChange={setTyped} isRequired />
            )}
        </FormDialog>
    );
}
