// SPDX-License-Identifier: Apache-2.0
//
// Failovers: what runs as a replica, and how drills went. What takes a replica away or makes it the machine asks for the machine's name first.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { RedoIcon } from "@patternfly/react-icons/dist/dynamic/icons/redo-icon";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, callAll } from "../../api/client";
import { machinesQuery } from "../../api/queries";
import type { components } from "../../api/schema";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";

type Failover = components["schemas"]["Failover"];
type Kind = components["schemas"]["FailoverRequest"]["kind"];
type Act = "cleanup" | "rollback" | "commit";

const isOpen = (f: Failover) => f.state === "starting" || f.state === "running" || f.state === "ending";

const failoversQuery = queryOptions({
    queryKey: ["failovers"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/failovers", { params: { query: { limit: 500, cursor } } }), 1000),
    refetchInterval: (query) => (query.state.data?.some(isOpen) ? 2000 : 10_000),
});
const targetsQuery = queryOptions({ queryKey: ["targets"], queryFn: () => callAll((cursor) => api.GET("/api/v1/targets", { params: { query: { limit: 500, cursor } } })) });

const colors = { starting: "blue", running: "purple", ending: "blue", cleaned: "green", committed: "teal", rolled_back: "grey", failed: "red", reprotected: "teal", failed_back: "green" } as const;
const verdicts = { unknown: "grey", passed: "green", failed: "red" } as const;

function useFailoverColumns(): Column<Failover>[] {
    const { t } = useTranslation("failovers");
    const { span, number } = useFormat();
    return [
        { key: "machine", label: t("column.machine"), width: 20, sortBy: (f) => f.machine_name, cell: (f) => <><strong>{f.machine_name}</strong><div className="lw-subtle">{t(`kind.${f.kind}`)}</div></> },
        { key: "state", label: t("column.state"), sortBy: (f) => f.state, cell: (f) => <Label variant="outline" color={colors[f.state]} isCompact>{t(`state.${f.state}`)}</Label> },
        { key: "point", label: t("column.point"), isNumber: true, sortBy: (f) => f.sequence, cell: (f) => <>{number(f.sequence)}<div className="lw-subtle"><Moment at={f.point_time} /></div></> },
        { key: "target", label: t("column.target"), sortBy: (f) => f.target_name, cell: (f) => f.target_name },
        { key: "verdict", label: t("column.verdict"), width: 20, sortBy: (f) => f.verdict, cell: (f) => <><Label color={verdicts[f.verdict]} isCompact>{t(`verdict.${f.verdict}`)}</Label><div className="lw-subtle lw-cause">{f.verdict_text}</div></> },
        { key: "rto", label: t("column.rto"), isNumber: true, sortBy: (f) => f.rto_seconds, cell: (f) => (f.rto_seconds > 0 ? span(f.rto_seconds) : <span className="lw-subtle">–</span>) },
        { key: "loss", label: t("column.loss"), isNumber: true, sortBy: (f) => f.data_loss_seconds, cell: (f) => (f.kind === "test" ? <span className="lw-subtle">–</span> : span(f.data_loss_seconds)) },
        { key: "asked", label: t("column.asked"), sortBy: (f) => f.requested_at, cell: (f) => <><Moment at={f.requested_at} /><div className="lw-subtle">{f.requested_by}</div></> },
    ];
}

/** Shows the job that was begun. */
function useFollow(onDone: () => void) {
    const client = useQueryClient();
    const navigate = useNavigate();
    return async (job: { id: string } | undefined) => {
        await client.invalidateQueries({ queryKey: ["failovers"] });
        onDone();
        if (job) void navigate({ to: "/jobs/$jobId", params: { jobId: job.id } });
    };
}

/** Kind, machine, target and boot check; an unplanned failover is typed out. */
function Start({ onClose }: { onClose: () => void }) {
    const { t } = useTranslation("failovers");
    const machines = useQuery(machinesQuery).data?.filter((m) => m.state === "protected" || m.state === "resynchronizing") ?? [];
    const targets = useQuery(targetsQuery).data ?? [];
    const [kind, setKind] = useState<Kind>("test");
    const [machine, setMachine] = useState("");
    const [target, setTarget] = useState("disks");
    const [network, setNetwork] = useState("");
    const [serial, setSerial] = useState("");
    const [typed, setTyped] = useState("");
    const chosen = machines.find((m) => m.id === machine) ?? machines[0];
    const adapter = targets.find((one) => one.name === target)?.adapter;
    const options = { ...(network && { network }), ...(serial && adapter === "libvirt" && { boot_check: { type: "serial" as const, pattern: serial } }) };
    const follow = useFollow(onClose);
    const mutation = useMutation({
        mutationFn: () => call(api.POST("/api/v1/failovers", { body: { machine: chosen?.id ?? "", kind, target, options } })),
        onSuccess: follow,
    });
    return (
        <FormDialog title={t("start")} text={t(`explain.${kind}`)} submit={t("start")} isDanger={kind === "unplanned"} isDisabled={!chosen || (kind === "unplanned" && typed !== chosen.name)} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="kind" label={t("column.kind")} value={kind} onChange={(value) => setKind(value as Kind)} options={(["test", "unplanned"] as const).map((value) => ({ value, text: t(`kind.${value}`) }))} />
            <Field id="machine" label={t("column.machine")} value={chosen?.id ?? ""} onChange={setMachine} options={machines.map((m) => ({ value: m.id, text: m.name }))} hint={chosen ? t("latest", { number: chosen.last_point_sequence }) : t("nobody")} />
            <Field id="target" label={t("column.target")} value={target} onChange={setTarget} options={targets.map((one) => ({ value: one.name, text: `${one.name} (${one.adapter})` }))} />
            {adapter === "libvirt" && <Field id="network" label={t("network")} value={network} onChange={setNetwork} hint={t("networkHint")} />}
            {adapter === "libvirt" && <Field id="serial" label={t("serial")} value={serial} onChange={setSerial} hint={t("serialHint")} />}
            {kind === "unplanned" && chosen && <Field id="typed" label={t("typeName", { name: chosen.name })} value={typed} onChange={setTyped} isRequired />}
        </FormDialog>
    );
}

function End({ act, failover, onClose }: { act: Act; failover: Failover; onClose: () => void }) {
    const { t } = useTranslation("failovers");
    const [typed, setTyped] = useState("");
    const [outcome, setOutcome] = useState<"passed" | "failed">(failover.verdict === "failed" ? "failed" : "passed");
    const [notes, setNotes] = useState("");
    const path = { failover_id: failover.id };
    const follow = useFollow(onClose);
    const mutation = useMutation({
        mutationFn: () =>
            act === "cleanup"
                ? call(api.POST("/api/v1/failovers/{failover_id}/cleanup", { params: { path }, body: { outcome, notes } }))
                : act === "commit"
                  ? call(api.POST("/api/v1/failovers/{failover_id}/commit", { params: { path } }))
                  : call(api.POST("/api/v1/failovers/{failover_id}/rollback", { params: { path } })),
        onSuccess: follow,
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

export function FailoversPage() {
    const { t } = useTranslation("failovers");
    const query = useQuery(failoversQuery);
    const may = useMay("operator");
    const [starting, setStarting] = useState(false);
    const [ending, setEnding] = useState<{ act: Act; failover: Failover }>();
    const actions = (f: Failover) => {
        const acts: Act[] = f.state !== "running" ? [] : f.kind === "test" ? ["cleanup"] : ["commit", "rollback"];
        return <Flex columnGap={{ default: "columnGapMd" }}>{acts.map((act) => <Button key={act} variant="link" isInline isDanger={act !== "cleanup"} onClick={() => setEnding({ act, failover: f })}>{t(`act.${act}`)}</Button>)}</Flex>;
    };
    return (
        <>
            <ListPage<Failover>
                title={t("title")}
                text={t("text")}
                query={query}
                columns={useFailoverColumns()}
                rowId={(f) => f.id}
                rowName={(f) => f.machine_name}
                words={(f) => `${f.machine_name} ${f.target_name} ${t(`kind.${f.kind}`)} ${t(`state.${f.state}`)} ${f.requested_by} ${f.notes}`}
                sort="-asked"
                none={{ title: t("none"), text: t("noneText"), icon: RedoIcon }}
                headerActions={may && <Button id="start-failover" onClick={() => setStarting(true)}>{t("start")}</Button>}
                rowActions={may ? actions : undefined}
            />
            {starting && <Start onClose={() => setStarting(false)} />}
            {ending && <End {...ending} onClose={() => setEnding(undefined)} />}
        </>
    );
}
