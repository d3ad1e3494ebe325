// SPDX-License-Identifier: Apache-2.0
//
// Recovery plans, and all runs of them.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { ListIcon } from "@patternfly/react-icons/dist/dynamic/icons/list-icon";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { FormDialog } from "../../widgets/FormDialog";
import { ListPage } from "../../widgets/ListPage";
import type { ListSearch } from "../../widgets/listSearch";
import { Moment } from "../../widgets/Moment";
import { Switch } from "../../widgets/Switch";
import { type Plan, planRunsQuery, plansQuery, type PlanRun } from "./planQueries";
import { RunDialog } from "./RunDialog";
import { RunState, Verdict } from "./StepState";

function usePlanColumns(): Column<Plan>[] {
    const { t } = useTranslation("plans");
    const { number } = useFormat();
    return [
        { key: "name", label: t("column.name"), width: 30, sortBy: (p) => p.name, cell: (p) => <><Link to="/plans/$planId" params={{ planId: p.id }} className="lw-link"><strong>{p.name}</strong></Link><div className="lw-subtle">{p.description}</div></> },
        { key: "groups", label: t("column.groups"), isNumber: true, sortBy: (p) => p.groups.length, cell: (p) => number(p.groups.length) },
        { key: "steps", label: t("column.steps"), isNumber: true, sortBy: (p) => p.groups.flatMap((g) => g.steps).length, cell: (p) => number(p.groups.flatMap((g) => g.steps).length) },
        { key: "last", label: t("column.last"), sortBy: (p) => p.last_run_at, cell: (p) => (p.last_run_id ? <><Link to="/plan-runs/$runId" params={{ runId: p.last_run_id }} className="lw-link"><Moment at={p.last_run_at} /></Link> {p.last_run_state && <RunState state={p.last_run_state} />}</> : <span className="lw-subtle">–</span>) },
    ];
}

function useRunColumns(): Column<PlanRun>[] {
    const { t } = useTranslation("plans");
    const { span, number } = useFormat();
    return [
        { key: "plan", label: t("column.plan"), width: 20, sortBy: (r) => r.plan_name, cell: (r) => <><Link to="/plan-runs/$runId" params={{ runId: r.id }} className="lw-link"><strong>{r.plan_name}</strong></Link><div className="lw-subtle">{t(`kind.${r.kind}`)}{r.drill_id ? ` · ${t("drill")}` : ""}</div></> },
        { key: "state", label: t("column.state"), sortBy: (r) => r.state, cell: (r) => <><RunState state={r.state} /><div className="lw-subtle">{t("done", { done: number(r.done_count), all: number(r.step_count) })}</div></> },
        { key: "verdict", label: t("column.verdict"), width: 25, sortBy: (r) => r.verdict, cell: (r) => <><Verdict verdict={r.verdict} /><div className="lw-subtle lw-cause">{r.verdict_text}</div></> },
        { key: "rto", label: t("column.rto"), isNumber: true, sortBy: (r) => r.rto_seconds, cell: (r) => (r.rto_seconds > 0 ? span(r.rto_seconds) : <span className="lw-subtle">–</span>) },
        { key: "predicted", label: t("column.predicted"), isNumber: true, sortBy: (r) => r.predicted_rto_seconds, cell: (r) => span(r.predicted_rto_seconds) },
        { key: "replicas", label: t("column.replicas"), isNumber: true, sortBy: (r) => r.replica_count, cell: (r) => number(r.replica_count) },
        { key: "asked", label: t("column.asked"), sortBy: (r) => r.requested_at, cell: (r) => <><Moment at={r.requested_at} /><div className="lw-subtle">{r.requested_by}</div></> },
    ];
}

function Remove({ plan, onClose }: { plan: Plan; onClose: () => void }) {
    const { t } = useTranslation("plans");
    const client = useQueryClient();
    const mutation = useMutation({
        mutationFn: () => call(api.DELETE("/api/v1/plans/{plan_id}", { params: { path: { plan_id: plan.id }, header: ifMatch(plan) } })),
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: ["plans"] });
            onClose();
        },
    });
    return <FormDialog title={t("removeTitle", { name: plan.name })} text={t("removeText")} submit={t("remove")} isDanger mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose} />;
}

function Plans({ above }: { above: ReactNode }) {
    const { t } = useTranslation("plans");
    const navigate = useNavigate();
    const mayRun = useMay("operator");
    const mayWrite = useMay("admin");
    const [running, setRunning] = useState<Plan>();
    const [removing, setRemoving] = useState<Plan>();
    const actions = (plan: Plan) => (
        <Flex columnGap={{ default: "columnGapMd" }}>
            <Button variant="link" isInline onClick={() => setRunning(plan)}>{t("start")}</Button>
            {mayWrite && <Button variant="link" isInline isDanger onClick={() => setRemoving(plan)}>{t("remove")}</Button>}
        </Flex>
    );
    return (
        <>
            <ListPage<Plan> title={t("title")} text={t("text")} query={useQuery(plansQuery)} columns={usePlanColumns()} rowId={(p) => p.id} rowName={(p) => p.name} words={(p) => `${p.name} ${p.description} ${p.groups.flatMap((g) => g.steps.map((s) => s.machine ?? s.name)).join(" ")}`} sort="name" none={{ title: t("none"), text: t("noneText"), icon: ListIcon }} headerActions={mayWrite && <Button id="add-plan" onClick={() => void navigate({ to: "/plans/$planId", params: { planId: "new" } })}>{t("add")}</Button>} rowActions={mayRun ? actions : undefined} above={above} />
            {running && <RunDialog plan={running} onClose={() => setRunning(undefined)} />}
            {removing && <Remove plan={removing} onClose={() => setRemoving(undefined)} />}
        </>
    );
}

function Runs({ above }: { above: ReactNode }) {
    const { t } = useTranslation("plans");
    return <ListPage<PlanRun> title={t("title")} text={t("text")} query={useQuery(planRunsQuery)} columns={useRunColumns()} rowId={(r) => r.id} rowName={(r) => r.plan_name} words={(r) => `${r.plan_name} ${t(`kind.${r.kind}`)} ${t(`run.${r.state}`)} ${r.requested_by} ${r.verdict_text}`} sort="-asked" none={{ title: t("noRuns"), text: t("noRunsText"), icon: ListIcon }} above={above} />;
}

export function PlansPage() {
    const { t } = useTranslation("plans");
    const { show }: ListSearch = useSearch({ strict: false });
    const above = <Switch label={t("title")} value={show === "runs" ? "runs" : "plans"} options={[{ value: "plans", text: t("plansTab") }, { value: "runs", text: t("runsTab") }]} />;
    return show === "runs" ? <Runs above={above} /> : <Plans above={above} />;
}
