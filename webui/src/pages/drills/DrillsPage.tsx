// SPDX-License-Identifier: Apache-2.0
//
// Drills on a schedule, and the machines that they have with the last good drill of each.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { StopwatchIcon } from "@patternfly/react-icons/dist/dynamic/icons/stopwatch-icon";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, callAll, ifMatch } from "../../api/client";
import { machinesQuery as allMachinesQuery, policiesQuery } from "../../api/queries";
import type { components } from "../../api/schema";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { ListPage } from "../../widgets/ListPage";
import type { ListSearch } from "../../widgets/listSearch";
import { Moment } from "../../widgets/Moment";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { Switch } from "../../widgets/Switch";
import { AS_SAID, isNamed, networkOf } from "../failovers/network";
import { NetworkChoice } from "../failovers/NetworkChoice";
import { drilledOf, type DrillMachine, FRESHNESS, type Freshness, freshnessOf } from "./drilled";

type Drill = components["schemas"]["Drill"];

const DAY_S = 86_400;
const all = { limit: 500 };
const drillsQuery = queryOptions({ queryKey: ["drills"], queryFn: () => callAll((cursor) => api.GET("/api/v1/drills", { params: { query: { ...all, cursor } } })), refetchInterval: 5000 });
const machinesQuery = queryOptions({ queryKey: ["drills", "machines"], queryFn: () => callAll((cursor) => api.GET("/api/v1/drill-machines", { params: { query: { ...all, cursor } } })), refetchInterval: 5000 });
const plansQuery = queryOptions({ queryKey: ["plans"], queryFn: () => callAll((cursor) => api.GET("/api/v1/plans", { params: { query: { ...all, cursor } } })) });
const targetsQuery = queryOptions({ queryKey: ["targets"], queryFn: () => callAll((cursor) => api.GET("/api/v1/targets", { params: { query: { ...all, cursor } } })) });
const verdictColors: Record<string, "green" | "red" | "grey"> = { passed: "green", failed: "red" };

function VerdictOf({ verdict }: { verdict: string | null }) {
    const { t } = useTranslation("drills");
    const known = verdict === "passed" || verdict === "failed" ? verdict : "unknown";
    return <Label color={verdictColors[known] ?? "grey"} isCompact>{t(`verdict.${known}`)}</Label>;
}

function useDrillColumns(): Column<Drill>[] {
    const { t } = useTranslation("drills");
    const { number, span } = useFormat();
    return [
        { key: "name", label: t("column.name"), width: 20, sortBy: (d) => d.name, cell: (d) => <><strong>{d.name}</strong>{!d.enabled && <div className="lw-subtle">{t("paused")}</div>}{d.last_problem && <div className="lw-subtle lw-cause">{d.last_problem}</div>}</> },
        { key: "of", label: t("column.of"), width: 20, sortBy: (d) => d.plan_name ?? d.policy_name, cell: (d) => (d.plan_name ? t("ofPlan", { name: d.plan_name }) : t("ofPolicy", { name: d.policy_name ?? "" })) },
        { key: "every", label: t("column.every"), isNumber: true, sortBy: (d) => d.interval_seconds, cell: (d) => <>{span(d.interval_seconds)}<div className="lw-subtle">{d.window}</div></> },
        { key: "machines", label: t("column.machines"), isNumber: true, sortBy: (d) => d.machine_count, cell: (d) => number(d.machine_count) },
        { key: "overdue", label: t("column.overdue"), isNumber: true, sortBy: (d) => d.overdue_count, cell: (d) => number(d.overdue_count) },
        { key: "last", label: t("column.last"), width: 20, sortBy: (d) => d.last_started_at, cell: (d) => (d.last_run_id ? <><Link to="/plan-runs/$runId" params={{ runId: d.last_run_id }} className="lw-link"><Moment at={d.last_started_at} /></Link> <VerdictOf verdict={d.last_run_verdict} /></> : <span className="lw-subtle">–</span>) },
    ];
}

const freshnessColors = { overdue: "red", pending: "yellow", fresh: "green", uncovered: "grey" } as const;

function useDrilled(only?: Freshness) {
    const drilled = useQuery(machinesQuery);
    const machines = useQuery(allMachinesQuery);
    return drilledOf(drilled, machines, only);
}

function useMachineColumns(): Column<DrillMachine>[] {
    const { t } = useTranslation("drills");
    return [
        { key: "machine", label: t("column.machine"), width: 25, sortBy: (m) => m.machine_name, cell: (m) => <Link to="/machines/$machineId" params={{ machineId: m.machine_id }} className="lw-link">{m.machine_name}</Link> },
        { key: "state", label: t("column.state"), sortBy: (m) => FRESHNESS.indexOf(freshnessOf(m)), cell: (m) => <Label color={freshnessColors[freshnessOf(m)]} isCompact>{t(`fresh.${freshnessOf(m)}`)}</Label> },
        { key: "good", label: t("column.good"), sortBy: (m) => m.last_good_at, cell: (m) => <Moment at={m.last_good_at} /> },
        { key: "due", label: t("column.due"), sortBy: (m) => m.overdue_at, cell: (m) => <Moment at={m.overdue_at} /> },
        { key: "last", label: t("column.last"), sortBy: (m) => m.last_at, cell: (m) => (m.last_at ? <><Moment at={m.last_at} /> <VerdictOf verdict={m.last_verdict} /></> : <span className="lw-subtle">–</span>) },
    ];
}

function useRefresh(onDone?: () => void) {
    const client = useQueryClient();
    return async () => {
        await client.invalidateQueries({ queryKey: ["drills"] });
        onDone?.();
    };
}

function Add({ onClose }: { onClose: () => void }) {
    const { t } = useTranslation("drills");
    const { t: words } = useTranslation("failovers");
    const plans = useQuery(plansQuery).data ?? [];
    const policies = useQuery(policiesQuery).data ?? [];
    const targets = useQuery(targetsQuery).data ?? [];
    const [name, setName] = useState("");
    const [subject, setSubject] = useState("");
    const [days, setDays] = useState("7");
    const [hours, setHours] = useState("");
    const [target, setTarget] = useState("");
    const [network, setNetwork] = useState(AS_SAID);
    const subjects = [...plans.map((p) => ({ value: `plan:${p.id}`, text: t("ofPlan", { name: p.name }) })), ...policies.map((p) => ({ value: `policy:${p.id}`, text: t("ofPolicy", { name: p.name }) }))];
    const chosen = subject || (subjects[0]?.value ?? "");
    const isPolicy = chosen.startsWith("policy:");
    const id = chosen.slice(chosen.indexOf(":") + 1);
    const where = target || (isPolicy ? (targets.find((one) => one.adapter !== "disk") ?? targets[0])?.name : "");
    const onSuccess = useRefresh(onClose);
    const mutation = useMutation({
        mutationFn: () => call(api.POST("/api/v1/drills", { body: { name, interval_seconds: Number(days) * DAY_S, window: hours, ...(isPolicy ? { policy: id } : { plan: id }), ...(where && { target: where }), ...(network.way !== "said" && { options: networkOf(network) }) } })),
        onSuccess,
    });
    return (
        <FormDialog title={t("add")} submit={t("add")} isDisabled={!name || !id || !(Number(days) > 0) || !isNamed(network)} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="drill-name" label={t("column.name")} value={name} onChange={setName} isRequired />
            <Field id="drill-of" label={t("of")} value={chosen} onChange={setSubject} options={subjects} />
            <Field id="drill-days" label={t("days")} type="number" value={days} onChange={setDays} isRequired />
            <Field id="drill-window" label={t("column.window")} value={hours} onChange={setHours} hint={t("windowHint")} />
            <Field id="drill-target" label={t("column.target")} value={where ?? ""} onChange={setTarget} options={[...(isPolicy ? [] : [{ value: "", text: t("asPlan") }]), ...targets.map((one) => ({ value: one.name, text: `${one.name} (${one.adapter})` }))]} />
            <NetworkChoice id="drill-network" entry={network} onChange={setNetwork} said={isPolicy ? words("networkSaid") : t("networkOfPlan")} hint={t("networkHint")} />
        </FormDialog>
    );
}

function Remove({ drill, onClose }: { drill: Drill; onClose: () => void }) {
    const { t } = useTranslation("drills");
    const onSuccess = useRefresh(onClose);
    const mutation = useMutation({ mutationFn: () => call(api.DELETE("/api/v1/drills/{drill_id}", { params: { path: { drill_id: drill.id }, header: ifMatch(drill) } })), onSuccess });
    return <FormDialog title={`${t("remove")}: ${drill.name}`} submit={t("remove")} isDanger mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose} />;
}

function Drills({ above }: { above: ReactNode }) {
    const { t } = useTranslation("drills");
    const mayRun = useMay("operator");
    const mayWrite = useMay("admin");
    const [adding, setAdding] = useState(false);
    const [removing, setRemoving] = useState<Drill>();
    const onSuccess = useRefresh();
    const start = useMutation({ mutationFn: (drill: Drill) => call(api.POST("/api/v1/drills/{drill_id}/runs", { params: { path: { drill_id: drill.id } } })), onSuccess });
    const pause = useMutation({
        mutationFn: (drill: Drill) => call(api.PATCH("/api/v1/drills/{drill_id}", { params: { path: { drill_id: drill.id }, header: ifMatch(drill) }, body: { enabled: !drill.enabled }, headers: { "Content-Type": "application/merge-patch+json" } })),
        onSuccess,
    });
    const actions = (drill: Drill) => (
        <Flex columnGap={{ default: "columnGapMd" }}>
            <Button variant="link" isInline isDisabled={start.isPending} onClick={() => start.mutate(drill)}>{t("run")}</Button>
            {mayWrite && <Button variant="link" isInline isDisabled={pause.isPending} onClick={() => pause.mutate(drill)}>{drill.enabled ? t("pause") : t("resume")}</Button>}
            {mayWrite && <Button variant="link" isInline isDanger onClick={() => setRemoving(drill)}>{t("remove")}</Button>}
        </Flex>
    );
    return (
        <>
            <ListPage<Drill> title={t("title")} text={t("text")} query={useQuery(drillsQuery)} columns={useDrillColumns()} rowId={(d) => d.id} rowName={(d) => d.name} words={(d) => `${d.name} ${d.plan_name ?? ""} ${d.policy_name ?? ""} ${d.last_problem}`} sort="name" none={{ title: t("none"), text: t("noneText"), icon: StopwatchIcon }} headerActions={mayWrite && <Button id="add-drill" onClick={() => setAdding(true)}>{t("add")}</Button>} rowActions={mayRun ? actions : undefined} above={<>{above}<ProblemAlert error={start.error ?? pause.error} /></>} />
            {adding && <Add onClose={() => setAdding(false)} />}
            {removing && <Remove drill={removing} onClose={() => setRemoving(undefined)} />}
        </>
    );
}

function Machines({ above, only }: { above: ReactNode; only?: Freshness }) {
    const { t } = useTranslation("drills");
    return <ListPage<DrillMachine> title={t("title")} text={t("text")} query={useDrilled(only)} columns={useMachineColumns()} rowId={(m) => m.machine_id} rowName={(m) => m.machine_name} words={(m) => m.machine_name} sort="due" none={{ title: t("noMachines"), text: t("noMachinesText"), icon: StopwatchIcon }} above={above} />;
}

export function DrillsPage() {
    const { t } = useTranslation("drills");
    const { show }: ListSearch = useSearch({ strict: false });
    const only = FRESHNESS.find((value) => value === show); // offered while it is shown
    const options = [{ value: "drills", text: t("drillsTab") }, { value: "machines", text: t("machinesTab") }, ...(only ? [{ value: only, text: t(`fresh.${only}`) }] : [])];
    const above = <Switch label={t("title")} value={only ?? (show === "machines" ? "machines" : "drills")} options={options} />;
    return only || show === "machines" ? <Machines above={above} only={only} /> : <Drills above={above} />;
}
