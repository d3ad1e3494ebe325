// SPDX-License-Identifier: Apache-2.0
//
// A failover, asked for one thing after the other: kind and machine, point, target and network, then the hub's own check of all of it and a typed
// confirmation. What follows is seen live, up to the decision.
import { Radio } from "@patternfly/react-core/dist/dynamic/components/Radio";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { type Machine, machinesQuery, type Point } from "../../api/queries";
import type { components } from "../../api/schema";
import { useFormat } from "../../i18n/format";
import { Field } from "../../widgets/Field";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { Precheck } from "../../widgets/Precheck";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { WizardFrame } from "../../widgets/WizardFrame";
import { AS_SAID, isNamed, type NetworkEntry, networkOf } from "../failovers/network";
import { NetworkChoice } from "../failovers/NetworkChoice";
import { failoverOfJobQuery, precheckQuery, targetsQuery } from "./failoverQueries";
import { FailoverView } from "./FailoverView";
import { FixupChoice } from "./FixupChoice";
import { FixupPreview } from "./FixupPreview";
import { type FixupEntry, fixupsOf, isEntered, NO_FIXUPS } from "./fixups";
import { PointChoice } from "./PointChoice";
import { mayFailOver, subjectOf } from "./subject";

type Request = components["schemas"]["FailoverRequest"];
type Kind = Request["kind"];
const KINDS: readonly Kind[] = ["test", "planned", "unplanned"];

interface Place {
    target: string;
    network: NetworkEntry;
    serial: string;
}

function KindStep({ kind, onKind, machine, machines, onMachine }: { kind: Kind; onKind: (kind: Kind) => void; machine: Machine | undefined; machines: Machine[]; onMachine: (id: string) => void }) {
    const { t } = useTranslation("failover");
    const { t: words } = useTranslation("failovers");
    const options = machines.map((m) => ({ value: m.id, text: m.name }));
    return (
        <>
            <Field id="machine" label={words("column.machine")} value={machine?.id ?? ""} onChange={onMachine} options={machine ? options : [{ value: "", text: t("choose") }, ...options]} hint={machines.length > 0 ? undefined : words("nobody")} />
            <fieldset className="lw-above" id="kinds">
                <legend>{t("kindText")}</legend>
                {KINDS.map((one) => <Radio key={one} id={`kind-${one}`} name="kind" className="lw-above" label={words(`kind.${one}`)} description={words(`explain.${one}`)} isChecked={kind === one} onChange={() => onKind(one)} />)}
            </fieldset>
        </>
    );
}

function PlaceStep({ place, onChange, adapter, fixups, onFixups }: { place: Place; onChange: (place: Place) => void; adapter: string | undefined; fixups: FixupEntry; onFixups: (fixups: FixupEntry) => void }) {
    const { t } = useTranslation("failover");
    const { t: words } = useTranslation("failovers");
    const targets = useQuery(targetsQuery).data ?? [];
    return (
        <>
            <Field id="target" label={words("column.target")} value={place.target} onChange={(target) => onChange({ ...place, target })} options={targets.map((one) => ({ value: one.name, text: `${one.name} (${one.adapter})` }))} hint={adapter === "disk" ? t("diskHint") : undefined} />
            {adapter === "libvirt" && <NetworkChoice id="network" entry={place.network} onChange={(network) => onChange({ ...place, network })} said={words("networkSaid")} />}
            {adapter === "libvirt" && <Field id="serial" label={words("serial")} value={place.serial} onChange={(serial) => onChange({ ...place, serial })} hint={words("serialHint")} />}
            <FixupChoice entry={fixups} onChange={onFixups} />
        </>
    );
}

function CheckStep({ request, machine, point, check, typed, onTyped, error }: { request: Request; machine: Machine; point: Pick<Point, "sequence" | "time">; check: { isPending: boolean; isSuccess: boolean; error: unknown }; typed: string; onTyped: (text: string) => void; error: unknown }) {
    const { t } = useTranslation("failover");
    const { t: words } = useTranslation("failovers");
    const { moment, number } = useFormat();
    return (
        <>
            <p>{t("summary", { kind: words(`kind.${request.kind}`), name: machine.name, sequence: number(point.sequence), time: moment(point.time), target: request.target })}</p>
            <p className="lw-subtle">{words(`explain.${request.kind}`)}</p>
            <Precheck check={check} />
            {request.options?.fixups && check.isSuccess && <FixupPreview request={{ kind: request.kind, machine: machine.id, target: request.target, sequence: point.sequence, options: request.options }} />}
            <ProblemAlert error={error} />
            {request.kind !== "test" && <div className="lw-above"><Field id="typed" label={words("typeName", { name: machine.name })} value={typed} onChange={onTyped} isRequired /></div>}
        </>
    );
}

/** From the job to the failover's own page, as soon as there is one. */
function Running({ machine, job }: { machine: string; job: string }) {
    const navigate = useNavigate();
    const id = useQuery(failoverOfJobQuery(machine, job)).data;
    useEffect(() => {
        if (id) void navigate({ to: "/failovers/$failoverId", params: { failoverId: id }, replace: true });
    }, [id, navigate]);
    return <FailoverView failover={undefined} job={job} onBegun={() => undefined} />;
}

export function FailoverWizardPage() {
    const { t } = useTranslation("failover");
    const search = useSearch({ from: "/shell/failovers/new" });
    const client = useQueryClient();
    const known = useQuery(machinesQuery).data;
    const machines = known?.filter(mayFailOver) ?? [];
    const targets = useQuery(targetsQuery).data ?? [];
    const [step, setStep] = useState(0);
    const [kind, setKind] = useState<Kind>("test");
    const [machineId, setMachineId] = useState(search.machine ?? "");
    const [point, setPoint] = useState<Point>();
    const [place, setPlace] = useState<Place>({ target: "disks", network: AS_SAID, serial: "" });
    const [fixups, setFixups] = useState(NO_FIXUPS);
    const [typed, setTyped] = useState("");
    const machine = subjectOf(machines, machineId);
    const adapter = targets.find((one) => one.name === place.target)?.adapter;
    // A planned failover makes its own last point.
    const steps = kind === "planned" ? (["kind", "place", "check", "run"] as const) : (["kind", "point", "place", "check", "run"] as const);
    const at = steps[step] ?? "kind";
    const options = { mapping: true, ...(adapter === "libvirt" && networkOf(place.network)), ...(place.serial && adapter === "libvirt" && { boot_check: { type: "serial" as const, pattern: place.serial } }), ...(fixups.isWanted && { fixups: fixupsOf(fixups) }) };
    const request: Request = { machine: machine?.id ?? "", kind, target: place.target, options, ...(kind !== "planned" && point && { sequence: point.sequence }) };
    // What fails over is not in the list of what can any more: its id is that of the request.
    const start = useMutation({
        mutationFn: (body: Request) => call(api.POST("/api/v1/failovers", { body })),
        onSuccess: () => {
            setStep(step + 1);
            void client.invalidateQueries({ predicate: ({ queryKey }) => ["machines", "machine", "failovers", "jobs"].includes(String(queryKey[0])) });
        },
    });
    const isGone = known !== undefined && machineId !== "" && !machine && !start.isPending && !start.isSuccess;
    const check = useQuery({ ...precheckQuery(request), enabled: at === "check" && machine !== undefined });
    const choose = (id: string) => {
        setMachineId(id);
        setPoint(undefined);
    };
    const blocked = !machine || (at === "point" && !point) || (at === "place" && (!isEntered(fixups) || (adapter === "libvirt" && !isNamed(place.network)))) || (at === "check" && kind !== "test" && typed !== machine.name) || (at === "check" && !check.isSuccess);
    const goOn = () => {
        if (at === "check") start.mutate(request);
        else setStep(step + 1);
        if (machine) setMachineId(machine.id); // the one that was seen, whatever is the first one later
    };
    return (
        <>
            <PageHeader title={t("title")} text={t("text")} />
            <WizardFrame label={t("title")} steps={steps.map((one) => t(`step.${one}`))} current={step} onBack={step > 0 && at !== "run" ? () => setStep(step - 1) : undefined} next={at === "run" ? undefined : at === "check" ? t(`go.${kind}`) : t("next")} onNext={goOn} isNextDisabled={blocked} isPending={start.isPending} isDanger={at === "check" && kind !== "test"}>
                {isGone && <Notice id="machine-gone" variant="warning" isInline component="h3" className="lw-below" title={t("gone")}><p>{t("goneText")}</p></Notice>}
                {isGone && <ProblemAlert error={start.error} />}
                {at === "kind" && <KindStep kind={kind} onKind={setKind} machine={machine} machines={machines} onMachine={choose} />}
                {at === "point" && machine && <PointChoice machine={machine} point={point} onChoose={setPoint} />}
                {at === "place" && <PlaceStep place={place} onChange={setPlace} adapter={adapter} fixups={fixups} onFixups={setFixups} />}
                {at === "check" && machine && (point ?? kind === "planned") && <CheckStep request={request} machine={machine} point={point ?? { sequence: machine.last_point_sequence ?? 0, time: machine.last_point_at ?? "" }} check={check} typed={typed} onTyped={setTyped} error={start.error} />}
                {at === "run" && start.data && <Running machine={start.variables.machine} job={start.data.id} />}
            </WizardFrame>
        </>
    );
}
