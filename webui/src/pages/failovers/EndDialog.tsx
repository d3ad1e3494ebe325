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
export type Act = "cleanup" | "rollback" | "commit";

/** What can be done to it now. */
export function actsFor(failover: Failover): Act[] {
    if (failover.state !== "running") return [];
    return failover.kind === "test" ? ["cleanup"] : ["commit", "rollback"];
}

interface EndDialogProps {
    act: Act;
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
    const path = { failover_id: failover.id };
    const mutation = useMutation({
        mutationFn: () =>
            act === "cleanup"
                ? call(api.POST("/api/v1/failovers/{failover_id}/cleanup", { params: { path }, body: { outcome, notes } }))
                : act === "commit"
                  ? call(api.POST("/api/v1/failovers/{failover_id}/commit", { params: { path } }))
                  : call(api.POST("/api/v1/failovers/{failover_id}/rollback", { params: { path } })),
        onSuccess: async (job) => {
            await client.invalidateQueries({ queryKey: ["failovers"] });
            onClose();
            onBegun(job.id);
        },
    });
    return (
        <FormDialog title={t(`act.${act}`)} text={t(`explain.${act}`)} submit={t(`act.${act}`)} isDanger={act !== "cleanup"} isDisabled={act !== "cleanup" && typed !== failover.machine_name} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            {act === "cleanup" ? (
                <>
                    <Field id="outcome" label={t("outcome")} value={outcome} onChange={(value) => setOutcome(value as "passed" | "failed")} options={(["passed", "failed"] as const).map((value) => ({ value, text: t(`verdict.${value}`) }))} />
                    <Field id="notes" label={t("notes")} value={notes} onChange={setNotes} hint={t("notesHint")} />
                </>
            ) : (
                <Field id="typed" label={t("typeName", { name: failover.machine_name })} value={typed} onChange={setTyped} isRequired />
            )}
        </FormDialog>
    );
}
