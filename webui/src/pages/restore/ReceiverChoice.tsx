// SPDX-License-Identifier: Apache-2.0
//
// Whose disks are overwritten: another machine's that is not protected, the ones in the rescue system first; and which disk goes onto which.
import { Checkbox } from "@patternfly/react-core/dist/dynamic/components/Checkbox";
import { Radio } from "@patternfly/react-core/dist/dynamic/components/Radio";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";

import { type Disk, disksQuery, type Machine, machinesQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { Field } from "../../widgets/Field";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { type Numbered, numbered, obstacle, type Pairs } from "./pairing";

/** Machines whose disks can be written. */
export function useReceivers(machine: string): Machine[] {
    const all = useQuery(machinesQuery).data ?? [];
    return all.filter((one) => one.id !== machine && one.state === "unprotected" && !one.simulated).sort((a, b) => Number(b.rescue) - Number(a.rescue) || Number(b.online) - Number(a.online) || a.name.localeCompare(b.name));
}

interface ReceiverChoiceProps {
    machine: Machine;
    receiver: string | undefined;
    onChoose: (id: string) => void;
    /** A choice before the other machines. */
    children?: ReactNode;
}

export function ReceiverChoice({ machine, receiver, onChoose, children }: ReceiverChoiceProps) {
    const { t } = useTranslation("restore");
    const receivers = useReceivers(machine.id);
    const says = (one: Machine) => [one.rescue ? t("rescue") : one.os_name || one.hostname, t("disks", { count: one.disk_count }), ...one.addresses.slice(0, 2), one.online ? "" : t("offline")].filter(Boolean).join(" · ");
    return (
        <fieldset id="receiver-choice">
            <legend>{t("receiverText", { name: machine.name })}</legend>
            {children}
            {receivers.map((one) => <Radio key={one.id} id={`receiver-${one.id}`} name="receiver" className="lw-above" label={one.name} description={says(one)} isChecked={receiver === one.id} isDisabled={!one.online} onChange={() => onChoose(one.id)} />)}
            {receivers.length === 0 && <Notice className="lw-above" variant="info" isInline isPlain component="h3" title={t("noReceiver")} />}
            <p className="lw-subtle lw-above">{t("receiverHint")}</p>
        </fieldset>
    );
}

/** One disk of the machine: whether the point has it, and where it goes. */
function Pair({ disk, theirs, taken, target, onChange }: { disk: Numbered; theirs: Disk[]; taken: readonly string[]; target: string | undefined; onChange: (key: string | undefined) => void }) {
    const { t } = useTranslation("restore");
    const { bytes } = useFormat();
    const why = (one: Disk) => obstacle(one, disk) ?? (one.key !== target && taken.includes(one.key) ? "taken" : undefined);
    const word = (one: Disk) => {
        const reason = why(one);
        return `${one.device} · ${bytes(one.size_bytes)} · ${one.model || one.key}${reason ? ` · ${t(`obstacle.${reason}`)}` : ""}`;
    };
    const options = [{ value: "", text: t("choose"), isDisabled: false }, ...theirs.map((one) => ({ value: one.key, text: word(one), isDisabled: why(one) !== undefined }))];
    return (
        <div className="lw-pair" data-number={disk.number}>
            <Checkbox id={`write-${disk.number}`} label={`${disk.device} · ${bytes(disk.size_bytes)}`} description={disk.protected ? disk.model || disk.key : t("notProtected")} isChecked={target !== undefined} onChange={(_event, on) => onChange(on ? "" : undefined)} />
            {target !== undefined && <Field id={`onto-${disk.number}`} label={t("onto", { device: disk.device })} value={target} onChange={onChange} options={options} isRequired />}
        </div>
    );
}

interface DiskPairsProps {
    machine: Machine;
    receiver: Machine;
    pairs: Pairs;
    onChange: (pairs: Pairs) => void;
}

export function DiskPairs({ machine, receiver, pairs, onChange }: DiskPairsProps) {
    const { t } = useTranslation("restore");
    const { t: common } = useTranslation();
    const ours = useQuery(disksQuery(machine.id));
    const theirs = useQuery({ ...disksQuery(receiver.id), refetchInterval: 5000 });
    const put = (number: number, key: string | undefined) => {
        const next = new Map(pairs);
        if (key === undefined) next.delete(number);
        else next.set(number, key);
        onChange(next);
    };
    if (!ours.data || !theirs.data) return ours.error || theirs.error ? <ProblemAlert error={ours.error ?? theirs.error} /> : <Skeleton height="8rem" screenreaderText={common("loading")} />;
    const present = theirs.data.filter((one) => one.present);
    return (
        <fieldset id="disk-pairs">
            <legend>{t("pairsText", { name: machine.name, other: receiver.name })}</legend>
            {numbered(ours.data).map((disk) => <Pair key={disk.number} disk={disk} theirs={present} taken={[...pairs.values()]} target={pairs.get(disk.number)} onChange={(key) => put(disk.number, key)} />)}
            <p className="lw-subtle lw-above">{t("pairsHint")}</p>
        </fieldset>
    );
}

/** What will be gone: said before it is typed. */
export function Overwritten({ machine, receiver, pairs }: { machine: Machine; receiver: Machine; pairs: Pairs }) {
    const { t } = useTranslation("restore");
    const { bytes } = useFormat();
    const ours = useQuery(disksQuery(machine.id)).data ?? [];
    const theirs = useQuery(disksQuery(receiver.id)).data ?? [];
    const line = (number: number, key: string) => {
        const from = ours.find((one) => one.number === number);
        const onto = theirs.find((one) => one.key === key);
        return t("pair", { from: from?.device ?? String(number), device: onto?.device ?? key, size: bytes(onto?.size_bytes ?? 0), model: onto?.model || key });
    };
    return (
        <Notice variant="warning" isInline component="h3" className="lw-above" title={t("overwritten", { name: receiver.name })}>
            <ul id="overwritten">{[...pairs].map(([number, key]) => <li key={number}>{line(number, key)}</li>)}</ul>
        </Notice>
    );
}
