// SPDX-License-Identifier: Apache-2.0
//
// The way back of a machine whose replica is protected: what is taken back, to the original machine or another one, the hub's check of it and the name of
// the machine whose disks are overwritten, typed out. What follows is seen live.
import { Checkbox } from "@patternfly/react-core/dist/dynamic/components/Checkbox";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Radio } from "@patternfly/react-core/dist/dynamic/components/Radio";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { type Machine, machineQuery } from "../../api/queries";
import { Field } from "../../widgets/Field";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { Precheck } from "../../widgets/Precheck";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { WizardFrame } from "../../widgets/WizardFrame";
import { asList, isComplete, type Pairs } from "../restore/pairing";
import { DiskPairs, Overwritten, ReceiverChoice, useReceivers } from "../restore/ReceiverChoice";
import { RestoreRun } from "../restore/RestoreRun";
import { usePairs } from "../restore/usePairs";
import { FailbackFacts } from "./FailbackFacts";
import { failbackCheckQuery, type FailbackRequest, type Preview, previewQuery } from "./failbackQueries";

const ORIGINAL = "";

function WhatStep({ preview, keep, onKeep }: { preview: Preview; keep: boolean; onKeep: (keep: boolean) => void }) {
    const { t } = useTranslation("failback");
    return (
        <>
            <FailbackFacts preview={preview} />
            {preview.fixup_count > 0 && <Checkbox id="keep-fixups" className="lw-above" label={t("keep")} description={t("keepText", { count: preview.fixup_count })} isChecked={keep} onChange={(_event, on) => onKeep(on)} />}
        </>
    );
}

function OriginalChoice({ preview, isChosen, onChoose }: { preview: Preview; isChosen: boolean; onChoose: () => void }) {
    const { t } = useTranslation("failback");
    return <Radio id="receiver-original" name="receiver" className="lw-above" label={t("original", { name: preview.machine_name })} description={t(preview.source_online ? "originalText" : "originalAway")} isChecked={isChosen} onChange={onChoose} />;
}

interface ConfirmProps {
    machine: Machine;
    preview: Preview;
    receiver: Machine | undefined;
    pairs: Pairs;
    check: { isPending: boolean; isSuccess: boolean; error: unknown };
    typed: string;
    onTyped: (text: string) => void;
    error: unknown;
}

function ConfirmStep({ machine, preview, receiver, pairs, check, typed, onTyped, error }: ConfirmProps) {
    const { t } = useTranslation("failback");
    const { t: words } = useTranslation("failovers");
    const { t: restore } = useTranslation("restore");
    const name = receiver?.name ?? machine.name;
    return (
        <>
            <p>{receiver ? t("summaryOther", { name: machine.name, other: receiver.name }) : t("summary", { name: machine.name })}</p>
            {receiver ? (
                <Overwritten machine={machine} receiver={receiver} pairs={pairs} />
            ) : (
                <Notice variant="warning" isInline component="h3" className="lw-above" title={restore("overwritten", { name })}>
                    <ul id="overwritten">{preview.disks.map((disk) => <li key={disk.number}>{disk.device || disk.key}</li>)}</ul>
                    <p>{t("unmount")}</p>
                </Notice>
            )}
            <Precheck check={check} />
            <ProblemAlert error={error} />
            <div className="lw-above"><Field id="typed" label={words("typeName", { name })} value={typed} onChange={onTyped} isRequired /></div>
        </>
    );
}

function Wizard({ id, preview, machine }: { id: string; preview: Preview; machine: Machine }) {
    const { t } = useTranslation("failback");
    const client = useQueryClient();
    const [step, setStep] = useState(0);
    const [keep, setKeep] = useState(false);
    const [receiverId, setReceiverId] = useState(ORIGINAL);
    const [typed, setTyped] = useState("");
    const receiver = useReceivers(machine.id).find((one) => one.id === receiverId);
    const [pairs, setPairs] = usePairs(machine.id, receiver, preview.disks.map((disk) => disk.number));
    const steps = receiverId === ORIGINAL ? (["what", "receiver", "check", "run"] as const) : (["what", "receiver", "disks", "check", "run"] as const);
    const at = steps[step] ?? "what";
    const body = (confirm: string): FailbackRequest => ({ confirm, keep_fixups: keep, ...(receiver && { to: receiver.id, disks: asList(pairs) }) });
    const name = receiver?.name ?? machine.name;
    const start = useMutation({
        mutationFn: () => call(api.POST("/api/v1/failovers/{failover_id}/failback", { params: { path: { failover_id: id } }, body: body(typed) })),
        onSuccess: async () => {
            setStep(step + 1);
            await client.invalidateQueries({ predicate: ({ queryKey }) => ["machines", "machine", "jobs"].includes(String(queryKey[0])) });
        },
    });
    const check = useQuery({ ...failbackCheckQuery(id, body(name)), enabled: at === "check" });
    const isBlocked = { what: false, receiver: receiverId !== ORIGINAL && !receiver, disks: !isComplete(pairs), check: !check.isSuccess || typed !== name, run: false }[at];
    const [began, setBegan] = useState<Machine>();
    const goOn = () => {
        if (at === "disks") setPairs(pairs); // what was seen is what is written, guessed or not
        if (at === "check") {
            setBegan(receiver);
            start.mutate();
        } else setStep(step + 1);
    };
    return (
        <WizardFrame label={t("title")} steps={steps.map((one) => t(`step.${one}`))} current={step} onBack={step > 0 && at !== "run" ? () => setStep(step - 1) : undefined} next={at === "run" ? undefined : t(at === "check" ? "go" : "next")} onNext={goOn} isNextDisabled={isBlocked} isPending={start.isPending} isDanger={at === "check"}>
            {at === "what" && <WhatStep preview={preview} keep={keep} onKeep={setKeep} />}
            {at === "receiver" && <ReceiverChoice machine={machine} receiver={receiverId} onChoose={setReceiverId}><OriginalChoice preview={preview} isChosen={receiverId === ORIGINAL} onChoose={() => setReceiverId(ORIGINAL)} /></ReceiverChoice>}
            {at === "disks" && receiver && <DiskPairs machine={machine} receiver={receiver} pairs={pairs} onChange={setPairs} />}
            {at === "check" && <ConfirmStep machine={machine} preview={preview} receiver={receiver} pairs={pairs} check={check} typed={typed} onTyped={setTyped} error={start.error} />}
            {at === "run" && start.data && <RestoreRun job={start.data.id} machine={machine} figures="failback" done={{ title: t("done", { name: machine.name }), text: began ? t("doneOther", { name: machine.name, other: began.name }) : t("doneText") }} />}
        </WizardFrame>
    );
}

export function FailbackPage() {
    const { t } = useTranslation("failback");
    const { t: common } = useTranslation();
    const { failoverId } = useParams({ from: "/shell/failovers/$failoverId/failback" });
    const { data: preview, error } = useQuery(previewQuery(failoverId));
    const { data: machine, error: machineError } = useQuery({ ...machineQuery(preview?.machine_id ?? ""), enabled: preview !== undefined });
    const problem = error ?? machineError;
    return (
        <>
            <PageHeader title={t("title")} text={t("text")} />
            {preview && machine ? <Wizard id={failoverId} preview={preview} machine={machine} /> : problem ? <PageSection hasBodyWrapper={false}><ProblemAlert error={problem} /></PageSection> : <Skeleton height="16rem" screenreaderText={common("loading")} />}
        </>
    );
}
