// SPDX-License-Identifier: Apache-2.0
//
// A lost machine on other hardware: which point of which machine, whose disks, which disk onto which; then the hub's check of all of it and the name of the
// machine whose disks are overwritten, typed out. What follows is seen live.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { type Machine, machinesQuery, type Point } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { Field } from "../../widgets/Field";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { Precheck } from "../../widgets/Precheck";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { WizardFrame } from "../../widgets/WizardFrame";
import { PointChoice } from "../failover/PointChoice";
import { asList, isComplete, type Pairs } from "./pairing";
import { DiskPairs, Overwritten, ReceiverChoice, useReceivers } from "./ReceiverChoice";
import { type RestoreRequest, restoreCheckQuery } from "./restoreQueries";
import { RestoreRun } from "./RestoreRun";
import { usePairs } from "./usePairs";

const STEPS = ["point", "receiver", "disks", "check", "run"] as const;
const REPLICATES: readonly Machine["state"][] = ["enabling", "initial_replication", "protected", "resynchronizing"];

function PointStep({ machines, machine, onMachine, point, onPoint }: { machines: Machine[]; machine: Machine | undefined; onMachine: (id: string) => void; point: Point | undefined; onPoint: (point: Point | undefined) => void }) {
    const { t } = useTranslation("restore");
    const { t: words } = useTranslation("failovers");
    return (
        <>
            <Field id="machine" label={words("column.machine")} value={machine?.id ?? ""} onChange={onMachine} options={[{ value: "", text: t("choose") }, ...machines.map((m) => ({ value: m.id, text: m.online ? m.name : t("notConnected", { name: m.name }) }))]} hint={machines.length > 0 ? undefined : words("nobody")} />
            {machine?.online && <Notice className="lw-above" variant="warning" isInline component="h3" title={t("isOnline", { name: machine.name })}><p>{t("isOnlineText")}</p></Notice>}
            {machine && <div className="lw-above"><PointChoice key={machine.id} machine={machine} point={point} onChoose={onPoint} /></div>}
        </>
    );
}

function ConfirmStep({ machine, receiver, point, pairs, check, typed, onTyped, error }: { machine: Machine; receiver: Machine; point: Point; pairs: Pairs; check: { isPending: boolean; isSuccess: boolean; error: unknown }; typed: string; onTyped: (text: string) => void; error: unknown }) {
    const { t } = useTranslation("restore");
    const { t: words } = useTranslation("failovers");
    const { moment, number } = useFormat();
    return (
        <>
            <p>{t("summary", { name: machine.name, sequence: number(point.sequence), time: moment(point.time), other: receiver.name })}</p>
            <Overwritten machine={machine} receiver={receiver} pairs={pairs} />
            <Precheck check={check} />
            <ProblemAlert error={error} />
            <div className="lw-above"><Field id="typed" label={words("typeName", { name: receiver.name })} value={typed} onChange={onTyped} isRequired /></div>
        </>
    );
}

export function RestorePage() {
    const { t } = useTranslation("restore");
    const search = useSearch({ from: "/shell/restore" });
    const client = useQueryClient();
    const machines = useQuery(machinesQuery).data?.filter((m) => m.last_point_sequence !== null && !m.simulated && REPLICATES.includes(m.state)).sort((a, b) => Number(a.online) - Number(b.online)) ?? [];
    const [step, setStep] = useState(0);
    const [machineId, setMachineId] = useState(search.machine ?? "");
    const [point, setPoint] = useState<Point>();
    const [receiverId, setReceiverId] = useState("");
    const [typed, setTyped] = useState("");
    const machine = machines.find((m) => m.id === machineId);
    const receiver = useReceivers(machine?.id ?? "").find((m) => m.id === receiverId);
    const [pairs, setPairs] = usePairs(machine?.id ?? "", receiver);
    const at = STEPS[step] ?? "point";
    const body = (confirm: string): RestoreRequest => ({ to: receiver?.id ?? "", confirm, sequence: point?.sequence, disks: asList(pairs) });
    const start = useMutation({
        mutationFn: (of: Machine) => call(api.POST("/api/v1/machines/{machine_id}/restore", { params: { path: { machine_id: of.id } }, body: body(typed) })),
        onSuccess: async () => {
            setStep(STEPS.indexOf("run"));
            await client.invalidateQueries({ predicate: ({ queryKey }) => ["machines", "machine", "jobs"].includes(String(queryKey[0])) });
        },
    });
    const check = useQuery({ ...restoreCheckQuery(machine?.id ?? "", body(receiver?.name ?? "")), enabled: at === "check" });
    // Once it runs, the machines are what they become: what was chosen is what is shown.
    const [began, setBegan] = useState<{ machine: Machine; receiver: Machine }>();
    const isBlocked = { point: !machine || !point, receiver: !receiver, disks: !isComplete(pairs), check: !check.isSuccess || typed !== receiver?.name, run: false }[at];
    const goOn = () => {
        if (at === "disks") setPairs(pairs); // what was seen is what is written, guessed or not
        if (at !== "check") setStep(step + 1);
        else if (machine && receiver) {
            setBegan({ machine, receiver });
            start.mutate(machine);
        }
    };
    const choose = (id: string) => {
        setMachineId(id);
        setPoint(undefined);
    };
    return (
        <>
            <PageHeader title={t("title")} text={t("text")} />
            <WizardFrame label={t("title")} steps={STEPS.map((one) => t(`step.${one}`))} current={step} onBack={step > 0 && at !== "run" ? () => setStep(step - 1) : undefined} next={at === "run" ? undefined : t(at === "check" ? "go" : "next")} onNext={goOn} isNextDisabled={isBlocked} isPending={start.isPending} isDanger={at === "check"}>
                {at === "point" && <PointStep machines={machines} machine={machine} onMachine={choose} point={point} onPoint={setPoint} />}
                {at === "receiver" && machine && <ReceiverChoice machine={machine} receiver={receiverId} onChoose={setReceiverId} />}
                {at === "disks" && machine && receiver && <DiskPairs machine={machine} receiver={receiver} pairs={pairs} onChange={setPairs} />}
                {at === "check" && machine && receiver && point && <ConfirmStep machine={machine} receiver={receiver} point={point} pairs={pairs} check={check} typed={typed} onTyped={setTyped} error={start.error} />}
                {at === "run" && began && start.data && <RestoreRun job={start.data.id} machine={began.machine} figures="restored" done={{ title: t("done", { name: began.machine.name, other: began.receiver.name }), text: t(began.receiver.rescue ? "doneRescue" : "doneText", { name: began.machine.name, other: began.receiver.name }) }} />}
            </WizardFrame>
        </>
    );
}
