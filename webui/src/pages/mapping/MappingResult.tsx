// SPDX-License-Identifier: Apache-2.0
//
// What a failover, or a test, that asks for nothing itself would run with; or why it would be refused.
import { useTranslation } from "react-i18next";

import { useFormat } from "../../i18n/format";
import { Notice } from "../../widgets/Notice";
import type { MappingOutcome } from "./mapping";

function useAddressing(outcome: MappingOutcome): string[] {
    const { t } = useTranslation("mapping");
    const network = outcome.network;
    switch (network?.method) {
        case undefined:
        case "keep":
            return [];
        case "dhcp":
            return [t("method.dhcp")];
        case "static":
            return [network.address ?? ""];
        case "translate":
            return (network.map ?? []).map(({ from, to }) => `${from} → ${to}`);
        case "each":
            return (network.nics ?? []).map((nic) => [nic.name, nic.method === "dhcp" ? t("method.dhcp") : nic.address].filter(Boolean).join(": "));
    }
}

export function MappingResult({ id, title, outcome }: { id: string; title: string; outcome: MappingOutcome }) {
    const { t } = useTranslation("mapping");
    const { bytes, number } = useFormat();
    const addressing = useAddressing(outcome);
    const nics = outcome.nics ?? [];
    const size = [outcome.cpus ? t("cpuCount", { count: outcome.cpus, number: number(outcome.cpus) }) : "", outcome.memory_bytes ? bytes(outcome.memory_bytes) : ""].filter(Boolean).join(", ");
    if (outcome.problem)
        return (
            <div id={id}>
                <Notice variant="warning" isInline title={t("refused", { what: title })} component="h3" className="lw-below">
                    <p>{outcome.problem}</p>
                    {outcome.correction && <p>{outcome.correction}</p>}
                </Notice>
            </div>
        );
    return (
        <section id={id} className="lw-below" aria-label={title}>
            <h3><strong>{title}</strong></h3>
            <ul className="lw-plain-list">
                <li>{size || t("sizeOfMachine")}</li>
                {nics.map((nic) => <li key={nic.source}>{`${nic.source || t("anyCard")} → ${nic.network}`}</li>)}
                {nics.length === 0 && <li>{t("noCards")}</li>}
                {addressing.map((line) => <li key={line}>{line}</li>)}
            </ul>
        </section>
    );
}
