// SPDX-License-Identifier: Apache-2.0
//
// What is shown of a copy: beside its machine, and beside its vault.
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { Moment } from "../../widgets/Moment";
import type { Copy } from "./copyQueries";

const colors = { initial: "blue", following: "green", failing: "red", ending: "grey" } as const;

function State({ copy }: { copy: Copy }) {
    const { t } = useTranslation("copies");
    return (
        <>
            <Label color={colors[copy.state]} isCompact>{t(`state.${copy.state}`)}</Label>
            {copy.cause && <div className="lw-subtle lw-cause">{copy.cause}{copy.remedy && <> {copy.remedy}</>}</div>}
        </>
    );
}

const none = <span className="lw-subtle">–</span>;

/** First column: the vault that has it, or the machine that it is of. */
export function useCopyColumns(of: "machine" | "vault"): Column<Copy>[] {
    const { t } = useTranslation("copies");
    const { span, bytes, number } = useFormat();
    const first: Column<Copy> =
        of === "machine"
            ? { key: "vault", label: t("column.vault"), width: 20, sortBy: (c) => c.vault_name, cell: (c) => <Link to="/vaults/$vaultId" params={{ vaultId: c.vault_id }} className="lw-link"><strong>{c.vault_name}</strong></Link> }
            : { key: "machine", label: t("column.machine"), width: 20, sortBy: (c) => c.machine_name, cell: (c) => <Link to="/machines/$machineId" params={{ machineId: c.machine_id }} search={{ tab: "copies", copy: c.vault_id }} className="lw-link"><strong>{c.machine_name}</strong></Link> };
    return [
        { ...first, cell: (c) => <>{first.cell(c)}<div className="lw-subtle">{t("from", { vault: c.source_vault_name })}</div></> },
        { key: "state", label: t("column.state"), width: 20, sortBy: (c) => c.state, cell: (c) => <State copy={c} /> },
        { key: "point", label: t("column.point"), isNumber: true, sortBy: (c) => c.source_sequence, cell: (c) => (c.source_sequence > 0 ? <>{number(c.source_sequence)}<div className="lw-subtle"><Moment at={c.point_time} /></div></> : none) },
        { key: "behind", label: t("column.behind"), isNumber: true, sortBy: (c) => c.behind_seconds, cell: (c) => (c.source_sequence > 0 ? span(c.behind_seconds) : none) },
        { key: "points", label: t("column.points"), isNumber: true, sortBy: (c) => c.point_count, cell: (c) => number(c.point_count) },
        { key: "taken", label: t("column.taken"), isNumber: true, sortBy: (c) => c.taken_bytes, cell: (c) => <>{bytes(c.taken_bytes)}<div className="lw-subtle">{t("travelled", { size: bytes(c.traffic_bytes) })}</div></> },
    ];
}
