// SPDX-License-Identifier: Apache-2.0
//
// The end of a failover: cleaning up a test with its outcome, committing or rolling back. What takes a replica away or makes it the machine asks for the
// machine's name first.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import type { components } from "../../api/schema";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";

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
    const isTyped = act === "commit" || act === "rollback";
    const path = { failover_id: failover.id };
    const mutation = useMutation({
        mutationFn: () =>
            act === "cleanup"
                ? call(api.POST("/api/v1/failovers/{failover_id}/cleanup", { params: { path }, body: { outcome, notes } }))
                : call(api.POST(`/api/v1/failovers/{failover_id}/${act}`, { params: { path } })),
        onSuccess: async (job) => {
            await client.invalidateQueries({ queryKey: ["failovers"] });
            onClose();
            onBegun(job.id);
        },
    });
    return (
        <FormDialog title={t(`act.${act}`)} text={t(`explain.${act}`)} submit={t(`act.${act}`)} isDanger={isTyped} isDisabled={isTyped && typed !== failover.machine_name} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            {act === "cleanup" ? (
                <>
                    <Field id="outcome" label={t("outcome")} value={outcome} onChange={(value) => setOutcome(value as "passed" | "failed")} options={(["passed", "failed"] as const).map((value) => ({ value, text: t(`verdict.${value}`) }))} />
                    <Field id="notes" label={t("notes")} value={notes} onChange={setNotes} hint={t("notesHint")} />
                </>
            ) : isTyped && (
                <Field id="typed" label={t("typeName", { name: failover.machine_name })} value={typed} onChange={setTyped} isRequired />
            )}
        </FormDialog>
    );
}
