// SPDX-License-Identifier: Apache-2.0
//
// Whether the replica's disks are prepared for the target, and how its network changes.
import { Checkbox } from "@patternfly/react-core/dist/dynamic/components/Checkbox";
import { useTranslation } from "react-i18next";

import { Field } from "../../widgets/Field";
import { type FixupEntry, type Method, METHODS } from "./fixups";

const FAILURES = ["", "stop", "continue"] as const;

export function FixupChoice({ entry, onChange }: { entry: FixupEntry; onChange: (entry: FixupEntry) => void }) {
    const { t } = useTranslation("failover");
    const put = (changes: Partial<FixupEntry>) => onChange({ ...entry, ...changes });
    return (
        <fieldset id="fixup-choice" className="lw-above">
            <Checkbox id="fixups" label={t("fixup.wanted")} description={t("fixup.wantedText")} isChecked={entry.isWanted} onChange={(_event, isWanted) => put({ isWanted })} />
            {entry.isWanted && (
                <div className="lw-indented">
                    <Field id="fixup-network" label={t("fixup.network")} value={entry.method} onChange={(method) => put({ method: method as Method })} options={METHODS.map((one) => ({ value: one, text: t(`fixup.method.${one}`) }))} />
                    {entry.method === "static" && <Field id="fixup-address" label={t("fixup.address")} value={entry.address} onChange={(address) => put({ address: address.trim() })} hint={t("fixup.addressHint")} isRequired />}
                    {entry.method === "static" && <Field id="fixup-gateway" label={t("fixup.gateway")} value={entry.gateway} onChange={(gateway) => put({ gateway: gateway.trim() })} />}
                    {entry.method === "translate" && <Field id="fixup-from" label={t("fixup.from")} value={entry.from} onChange={(from) => put({ from: from.trim() })} hint={t("fixup.fromHint")} isRequired />}
                    {entry.method === "translate" && <Field id="fixup-to" label={t("fixup.to")} value={entry.to} onChange={(to) => put({ to: to.trim() })} isRequired />}
                    <Field id="fixup-failure" label={t("fixup.failure")} value={entry.onFailure} onChange={(onFailure) => put({ onFailure: onFailure as FixupEntry["onFailure"] })} options={FAILURES.map((one) => ({ value: one, text: t(`fixup.onFailure.${one || "default"}`) }))} />
                    <Checkbox id="fixup-serial" className="lw-above" label={t("fixup.serial")} isChecked={entry.serial} onChange={(_event, serial) => put({ serial })} />
                </div>
            )}
        </fieldset>
    );
}
