// SPDX-License-Identifier: Apache-2.0
//
// The network of a replica: as it is said elsewhere, one by its name, or none at all.
import { useTranslation } from "react-i18next";

import { Field } from "../../widgets/Field";
import { type NetworkEntry, WAYS } from "./network";

interface NetworkChoiceProps {
    id: string;
    entry: NetworkEntry;
    onChange: (entry: NetworkEntry) => void;
    /** Who says it where it is not chosen here. */
    said: string;
    hint?: string;
}

export function NetworkChoice({ id, entry, onChange, said, hint }: NetworkChoiceProps) {
    const { t } = useTranslation("failovers");
    const texts = { said, named: t("networkWay.named"), none: t("networkWay.none") };
    return (
        <>
            <Field id={`${id}-way`} label={t("network")} value={entry.way} onChange={(way) => onChange({ ...entry, way: way as NetworkEntry["way"] })} options={WAYS.map((one) => ({ value: one, text: texts[one] }))} hint={hint} />
            {entry.way === "named" && <Field id={id} label={t("networkName")} value={entry.name} onChange={(name) => onChange({ ...entry, name })} hint={t("networkHint")} isRequired />}
        </>
    );
}
