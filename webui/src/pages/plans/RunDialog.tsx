// SPDX-License-Identifier: Apache-2.0
//
// Starting a run: its kind and, before anything begins, what the hub expects of it. What is no test asks for the plan's name.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { useFormat } from "../../i18n/format";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { KINDS, type Plan, type RunKind } from "./planQueries";

function Forecast({ plan, kind }: { plan: Plan; kind: RunKind }) {
    const { t } = useTranslation("plans");
    const { span } = useFormat();
    const { data, error } = useQuery({
        queryKey: ["plans", plan.id, "forecast", kind],
        queryFn: () => call(api.POST("/api/v1/plans/{plan_id}/forecast", { params: { path: { plan_id: plan.id } }, body: { kind } })),
        retry: false,
    });
    if (error) return <ProblemAlert error={error} />;
    return (
        <p role="status">
            {data ? t(data.predicted_known ? "forecast" : "forecastGuess", { rto: span(data.predicted_rto_seconds), loss: span(data.data_loss_seconds) }) : t("asking")}
        </p>
    );
}

export function RunDialog({ plan, onClose }: { plan: Plan; onClose: () => void }) {
    const { t } = useTranslation("plans");
    const client = useQueryClient();
    const navigate = useNavigate();
    const [kind, setKind] = useState<RunKind>("test");
    const [end, setEnd] = useState<"keep" | "cleanup">("keep");
    const [typed, setTyped] = useState("");
    const isTest = kind === "test";
    const mutation = useMutation({
        mutationFn: () => call(api.POST("/api/v1/plans/{plan_id}/runs", { params: { path: { plan_id: plan.id } }, body: { kind, ...(isTest && { cleanup: end === "cleanup" }) } })),
        onSuccess: async (job) => {
            await client.invalidateQueries({ queryKey: ["plan-runs"] });
            onClose();
            const runId = (job.params as { run_id?: string }).run_id;
            if (runId) void navigate({ to: "/plan-runs/$runId", params: { runId } });
        },
    });
    return (
        <FormDialog title={t("runTitle", { name: plan.name })} text={t(`explain.${kind}`)} submit={t("start")} isDanger={!isTest} isDisabled={!isTest && typed !== plan.name} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="run-kind" label={t("column.kind")} value={kind} onChange={(value) => setKind(value as RunKind)} options={KINDS.map((value) => ({ value, text: t(`kind.${value}`) }))} />
            {isTest && <Field id="run-end" label={t("afterwards")} value={end} onChange={(value) => setEnd(value as "keep" | "cleanup")} options={[{ value: "keep", text: t("keep") }, { value: "cleanup", text: t("cleanupAfter") }]} />}
            <Forecast plan={plan} kind={kind} />
            {!isTest && <Field id="run-typed" label={t("typeName", { name: plan.name })} value={typed} onChange={setTyped} isRequired />}
        </FormDialog>
    );
}
