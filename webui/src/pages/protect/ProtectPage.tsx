// SPDX-License-Identifier: Apache-2.0
//
// From nothing to a protected machine: install the agent with a one-time token (or take a machine that is known), choose disks, choose a policy, watch
// the first copy.
import { FormSelect, FormSelectOption } from "@patternfly/react-core/dist/dynamic/components/FormSelect";
import { FormGroup } from "@patternfly/react-core/dist/dynamic/components/Form";
import { List, ListItem } from "@patternfly/react-core/dist/dynamic/components/List";
import { ToggleGroup, ToggleGroupItem } from "@patternfly/react-core/dist/dynamic/components/ToggleGroup";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { useCallback, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { disksQuery, machinesQuery, policiesQuery, type Policy } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { Field } from "../../widgets/Field";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { WizardFrame } from "../../widgets/WizardFrame";
import { retentionOf } from "../policies/retention";
import { DiskChoice, isEligible } from "./DiskChoice";
import { FirstContact } from "./FirstContact";
import { FirstCopy } from "./FirstCopy";

function Known({ value, onChange }: { value: string; onChange: (id: string) => void }) {
    const { t } = useTranslation("protect");
    const machines = useQuery(machinesQuery).data?.filter((m) => m.state === "unprotected" && m.disk_count > 0) ?? [];
    if (machines.length === 0) return <Notice variant="info" isInline isPlain title={t("noneKnown")} />;
    return <Field id="known-machine" label={t("machine")} value={value} onChange={onChange} options={[{ value: "", text: t("choose") }, ...machines.map((m) => ({ value: m.id, text: m.online ? m.name : t("offline", { name: m.name }) }))]} />;
}

/** What the policy means, in words. */
function PolicyText({ policy }: { policy: Policy }) {
    const { t } = useTranslation("protect");
    const { span, number } = useFormat();
    const kept = retentionOf({ interval: policy.interval_seconds, all: policy.keep_all_seconds, minute: policy.keep_minute_seconds, hour: policy.keep_hour_seconds, day: policy.keep_day_seconds });
    return (
        <List>
            <ListItem>{t("policy.interval", { interval: span(policy.interval_seconds), target: span(policy.rpo_target_seconds) })}</ListItem>
            {kept.map((tier) => <ListItem key={tier.tier}>{t("policy.kept", { every: span(tier.every), until: span(tier.until), points: number(tier.points) })}</ListItem>)}
            {policy.lock_seconds > 0 && <ListItem>{t("policy.lock", { time: span(policy.lock_seconds) })}</ListItem>}
        </List>
    );
}

function PolicyChoice({ policies, value, onChange }: { policies: Policy[]; value: Policy | undefined; onChange: (id: string) => void }) {
    const { t } = useTranslation("protect");
    return (
        <>
            <FormGroup label={t("policy.title")} fieldId="policy">
                <FormSelect id="policy" value={value?.id ?? ""} onChange={(_event, id) => onChange(id)}>
                    {policies.map((one) => <FormSelectOption key={one.id} value={one.id} label={one.is_default ? t("policy.default", { name: one.name }) : one.name} />)}
                </FormSelect>
            </FormGroup>
            <div className="lw-above">{value && <PolicyText policy={value} />}</div>
        </>
    );
}

function useProtect(machine: string, chosen: ReadonlySet<string> | undefined, policy: Policy | undefined) {
    const client = useQueryClient();
    const disks = useQuery({ ...disksQuery(machine), enabled: machine !== "" }).data ?? [];
    // A disk that was ticked and is gone is not asked for: nobody sees it any more.
    const keys = disks.filter((disk) => isEligible(disk) && (!chosen || chosen.has(disk.key))).map((disk) => disk.key);
    const mutation = useMutation({
        mutationFn: () => call(api.POST("/api/v1/machines/{machine_id}/protect", { params: { path: { machine_id: machine } }, body: { disks: keys, policy_id: policy?.id } })),
        onSuccess: () => client.invalidateQueries({ predicate: ({ queryKey }) => ["machines", "machine", "jobs", "overview"].includes(String(queryKey[0])) }),
    });
    return { keys, mutation };
}

export function ProtectPage() {
    const { t } = useTranslation("protect");
    const search = useSearch({ from: "/shell/protect" });
    const mayEnrol = useMay("admin");
    const [way, setWay] = useState<"new" | "known">(search.machine || !mayEnrol ? "known" : "new");
    const [machine, setMachine] = useState(search.machine ?? "");
    const [step, setStep] = useState(0);
    const [chosen, setChosen] = useState<ReadonlySet<string>>();
    const [policyId, setPolicyId] = useState("");
    const policies = useQuery(policiesQuery).data ?? [];
    const policy = policies.find((one) => (policyId ? one.id === policyId : one.is_default)) ?? policies[0];
    const { keys, mutation } = useProtect(machine, chosen, policy);
    const onReady = useCallback((id: string) => setMachine(id), []);
    const choose = (id: string) => {
        setMachine(id);
        setChosen(undefined);
    };
    const goOn = () => (step < 2 ? setStep(step + 1) : mutation.mutate(undefined, { onSuccess: () => setStep(3) }));
    return (
        <>
            <PageHeader title={t("title")} text={t("text")} />
            <WizardFrame
                label={t("title")}
                steps={[t("step.machine"), t("step.disks"), t("step.policy"), t("step.copy")]}
                current={step}
                onBack={step > 0 && step < 3 ? () => setStep(step - 1) : undefined}
                next={step < 2 ? t("next") : step === 2 ? t("protect") : undefined}
                onNext={goOn}
                isNextDisabled={!machine || (step > 0 && keys.length === 0) || (step === 2 && !policy)}
                isPending={mutation.isPending}
            >
                {step === 0 && (
                    <>
                        {mayEnrol && (
                            <ToggleGroup aria-label={t("step.machine")} className="lw-below">
                                <ToggleGroupItem text={t("way.new")} buttonId="way-new" isSelected={way === "new"} onChange={() => { setWay("new"); choose(""); }} />
                                <ToggleGroupItem text={t("way.known")} buttonId="way-known" isSelected={way === "known"} onChange={() => { setWay("known"); choose(""); }} />
                            </ToggleGroup>
                        )}
                        {way === "new" ? <FirstContact onReady={onReady} /> : <Known value={machine} onChange={choose} />}
                    </>
                )}
                {step === 1 && <DiskChoice machine={machine} chosen={chosen} onChange={setChosen} />}
                {step === 2 && <><ProblemAlert error={mutation.error} /><PolicyChoice policies={policies} value={policy} onChange={setPolicyId} /></>}
                {step === 3 && mutation.data && <FirstCopy machine={machine} job={mutation.data.id} />}
            </WizardFrame>
        </>
    );
}
