// SPDX-License-Identifier: Apache-2.0
//
// Which address a card of the replica has.
import { useTranslation } from "react-i18next";

import { Field } from "../../widgets/Field";
import { type AddressEntry, isMap, METHODS, SITE_METHODS } from "./mapping";

interface AddressFieldsProps {
    id: string;
    label: string;
    entry: AddressEntry;
    ofSite: boolean;
    /** Of tests: they may have the address of failovers. */
    ofTests?: boolean;
    onChange: (entry: AddressEntry) => void;
}

export function AddressFields({ id, label, entry, ofSite, ofTests, onChange }: AddressFieldsProps) {
    const { t } = useTranslation("mapping");
    const put = (changes: Partial<AddressEntry>) => onChange({ ...entry, ...changes });
    const methods = [...(ofTests ? (["same"] as const) : []), ...(ofSite ? SITE_METHODS : METHODS)];
    return (
        <>
            <Field id={id} label={label} value={entry.method} onChange={(method) => put({ method: method as AddressEntry["method"] })} options={methods.map((one) => ({ value: one, text: t(`method.${one}`) }))} />
            {entry.method === "static" && <Field id={`${id}-address`} label={t("address")} value={entry.address} onChange={(address) => put({ address })} hint={t("addressHint")} isRequired />}
            {entry.method === "static" && <Field id={`${id}-gateway`} label={t("gateway")} value={entry.gateway} onChange={(gateway) => put({ gateway })} />}
            {entry.method === "static" && <Field id={`${id}-dns`} label={t("dns")} value={entry.dns} onChange={(dns) => put({ dns })} hint={t("dnsHint")} />}
            {entry.method === "translate" && <Field id={`${id}-map`} label={t("map")} value={entry.map} onChange={(map) => put({ map })} hint={t("mapHint")} isWrong={entry.map !== "" && !isMap(entry.map)} isRequired />}
        </>
    );
}
