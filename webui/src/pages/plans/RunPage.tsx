// SPDX-License-Identifier: Apache-2.0
//
// A run of a plan while it goes on and after: steps, gates with their answers, machines with what was measured, and the end of its replicas.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { Title } from "@patternfly/react-core/dist/dynamic/components/Title";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table/dist/dynamic/components/Table";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { Moment } from "../../widgets/Moment";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { PlanGraph } from "./PlanGraph";
import { type PlanReport, planReportQuery } from "./planQueries";
import { RunState, StepState, Verdict } from "./StepState";

type Act = "cleanup" | "rollback" | "commit";

function Gates({ report }: { report: PlanReport }) {
    const { t } = useTranslation("plans");
    const client = useQueryClient();
    const may = useMay("operator");
    const answer = useMutation({
        mutationFn: ({ jobId, word }: { jobId: string; word: "continue" | "abort" }) => call(api.POST("/api/v1/jobs/{job_id}/answer", { params: { path: { job_id: jobId } }, body: { answer: word } })),
        onSuccess: () => client.invalidateQueries({ queryKey: ["plan-runs"] }),
    });
    return (
        <>
            <ProblemAlert error={answer.error} />
            {report.steps.filter((step) => step.state === "waiting_for_input" && step.job_id).map((step) => (
                <Notice key={step.name} variant="warning" isInline component="h2" title={t("gate", { name: step.name })} actionLinks={may && (
                    <>
                        <Button variant="primary" isDisabled={answer.isPending} onClick={() => answer.mutate({ jobId: step.job_id ?? "", word: "continue" })}>{t("continue")}</Button>
                        <Button variant="link" isDisabled={answer.isPending} onClick={() => answer.mutate({ jobId: step.job_id ?? "", word: "abort" })}>{t("abort")}</Button>
                    </>
                )}>
                    <p>{step.question}</p>
                </Notice>
            ))}
        </>
    );
}

function Facts({ report }: { report: PlanReport }) {
    const { t } = useTranslation("plans");
    const { span } = useFormat();
    const shown = (seconds: number | null) => (seconds === null ? "–" : span(seconds));
    const facts = [["rto", shown(report.rto_seconds)], ["predicted", shown(report.predicted_rto_seconds)], ["rpo", shown(report.rpo_seconds)]] as const;
    return <div className="lw-figures">{facts.map(([key, value]) => <div key={key} className="lw-figure"><span className="lw-figure-number lw-number">{value}</span>{t(`column.${key}`)}</div>)}</div>;
}

function StepTable({ report }: { report: PlanReport }) {
    const { t } = useTranslation("plans");
    const { span } = useFormat();
    return (
        <Table aria-label={t("steps")} variant="compact" gridBreakPoint="grid-md">
            <Thead><Tr><Th>{t("column.step")}</Th><Th>{t("column.state")}</Th><Th>{t("column.took")}</Th><Th>{t("column.detail")}</Th></Tr></Thead>
            <Tbody>
                {report.steps.map((step) => (
                    <Tr key={step.name}>
                        <Td dataLabel={t("column.step")}><strong>{step.name}</strong><div className="lw-subtle">{step.group} · {t(`type.${step.type}`)}</div></Td>
                        <Td dataLabel={t("column.state")}><StepState state={step.state} /></Td>
                        <Td dataLabel={t("column.took")} className="lw-number">{step.took_seconds === null ? "–" : span(step.took_seconds)}</Td>
                        <Td dataLabel={t("column.detail")}><span className="lw-cause">{step.detail}</span>{step.job_id && <div><Link to="/jobs/$jobId" params={{ jobId: step.job_id }} className="lw-link">{t("job", { name: step.name })}</Link></div>}</Td>
                    </Tr>
                ))}
            </Tbody>
        </Table>
    );
}

function MachineTable({ report }: { report: PlanReport }) {
    const { t } = useTranslation("plans");
    const { span } = useFormat();
    const shown = (seconds: number | null) => (seconds === null ? "–" : span(seconds));
    if (report.machines.length === 0) return null;
    return (
        <>
            <Title headingLevel="h2" className="lw-above">{t("machines")}</Title>
            <Table aria-label={t("machines")} variant="compact" gridBreakPoint="grid-md">
                <Thead><Tr><Th>{t("column.machine")}</Th><Th>{t("column.rto")}</Th><Th>{t("column.rpo")}</Th><Th>{t("column.point")}</Th><Th>{t("column.verdict")}</Th></Tr></Thead>
                <Tbody>
                    {report.machines.map((m) => (
                        <Tr key={m.step}>
                            <Td dataLabel={t("column.machine")}><strong>{m.machine}</strong><div className="lw-subtle">{m.target}</div></Td>
                            <Td dataLabel={t("column.rto")} className="lw-number">{shown(m.rto_seconds)}</Td>
                            <Td dataLabel={t("column.rpo")} className="lw-number">{shown(m.rpo_seconds)}</Td>
                            <Td dataLabel={t("column.point")}><Moment at={m.point_time} /></Td>
                            <Td dataLabel={t("column.verdict")}><Verdict verdict={m.verdict} /><div className="lw-subtle lw-cause">{m.verdict_text}</div></Td>
                        </Tr>
                    ))}
                </Tbody>
            </Table>
        </>
    );
}

function End({ act, report, onClose }: { act: Act; report: PlanReport; onClose: () => void }) {
    const { t } = useTranslation("plans");
    const client = useQueryClient();
    const navigate = useNavigate();
    const [typed, setTyped] = useState("");
    const path = { run_id: report.run_id };
    const mutation = useMutation({
        mutationFn: () =>
            act === "cleanup"
                ? call(api.POST("/api/v1/plan-runs/{run_id}/cleanup", { params: { path }, body: {} }))
                : act === "commit"
                  ? call(api.POST("/api/v1/plan-runs/{run_id}/commit", { params: { path } }))
                  : call(api.POST("/api/v1/plan-runs/{run_id}/rollback", { params: { path } })),
        onSuccess: async (job) => {
            await client.invalidateQueries({ queryKey: ["plan-runs"] });
            onClose();
            void navigate({ to: "/jobs/$jobId", params: { jobId: job.id } });
        },
    });
    return (
        <FormDialog title={t(`act.${act}`)} text={t(`explain.${act}`)} submit={t(`act.${act}`)} isDanger={act !== "cleanup"} isDisabled={act !== "cleanup" && typed !== report.plan_name} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            {act !== "cleanup" && <Field id="end-typed" label={t("typeName", { name: report.plan_name })} value={typed} onChange={setTyped} isRequired />}
        </FormDialog>
    );
}

function Actions({ report, onAct }: { report: PlanReport; onAct: (act: Act) => void }) {
    const { t } = useTranslation("plans");
    const client = useQueryClient();
    const may = useMay("operator");
    const cancel = useMutation({
        mutationFn: () => call(api.POST("/api/v1/jobs/{job_id}/cancel", { params: { path: { job_id: report.job_id ?? "" } } })),
        onSuccess: () => client.invalidateQueries({ queryKey: ["plan-runs"] }),
    });
    const acts: Act[] = report.state === "running" || report.replicas_running === 0 ? [] : report.kind === "test" ? ["cleanup"] : ["commit", "rollback"];
    return (
        <Flex columnGap={{ default: "columnGapMd" }}>
            {may && acts.map((act) => <Button key={act} id={`run-${act}`} variant={act === "cleanup" ? "primary" : "secondary"} isDanger={act !== "cleanup"} onClick={() => onAct(act)}>{t(`act.${act}`)}</Button>)}
            {may && report.state === "running" && report.job_id && <Button id="cancel-run" variant="secondary" isDanger isDisabled={cancel.isPending || cancel.isSuccess} onClick={() => cancel.mutate()}>{t("cancelRun")}</Button>}
            <Button id="run-report" variant="link" component="a" href={`/api/v1/plan-runs/${report.run_id}/report`} target="_blank" rel="noreferrer">{t("report")}</Button>
        </Flex>
    );
}

export function RunPage() {
    const { t } = useTranslation("plans");
    const { t: common } = useTranslation();
    const { runId } = useParams({ from: "/shell/plan-runs/$runId" });
    const { data: report, error } = useQuery(planReportQuery(runId));
    const [act, setAct] = useState<Act>();
    const boxes = report?.steps.map((step) => ({ id: step.name, group: step.group, type: step.type, text: "", after: step.after, x: 0, y: 0 }));
    return (
        <>
            <PageHeader title={report ? t("runOf", { name: report.plan_name, kind: t(`kind.${report.kind}`) }) : t("runsTab")} text={report && t("askedBy", { who: report.requested_by })} labels={report && <><RunState state={report.state} /><Verdict verdict={report.verdict} /></>} actions={report && <Actions report={report} onAct={setAct} />} />
            <PageSection hasBodyWrapper={false} isFilled>
                <ProblemAlert error={error} />
                {report && boxes ? (
                    <>
                        <Gates report={report} />
                        {report.state === "failed" && <Notice variant="danger" isInline component="h2" title={report.verdict_text} />}
                        <Facts report={report} />
                        <PlanGraph steps={boxes} states={Object.fromEntries(report.steps.map((step) => [step.name, step.state]))} />
                        <MachineTable report={report} />
                        <Title headingLevel="h2" className="lw-above">{t("steps")}</Title>
                        <StepTable report={report} />
                    </>
                ) : !error && <Skeleton height="24rem" screenreaderText={common("loading")} />}
            </PageSection>
            {act && report && <End act={act} report={report} onClose={() => setAct(undefined)} />}
        </>
    );
}
