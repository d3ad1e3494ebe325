// SPDX-License-Identifier: Apache-2.0
//
// What became of each of many machines: what needs somebody first.
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { useMemo, useState } from "react";
import { useTranslation } from "react-i18next";

import { OUTCOMES, type Outcome, type Result } from "../api/each";
import { type Column, DataTable } from "./DataTable";

const colors = { done: "green", already: "grey", held: "orange", refused: "red", skipped: "grey" } as const;

/** "10 done, 2 not done" */
export function useEachSummary() {
    const { t } = useTranslation();
    return (results: Result[]) => {
        const count = (outcome: Outcome) => results.filter((result) => result.outcome === outcome).length;
        return [...OUTCOMES].reverse().filter((outcome) => count(outcome) > 0).map((outcome) => t(`each.summary.${outcome}`, { count: count(outcome) })).join(", ");
    };
}

export function EachResults({ results }: { results: Result[] }) {
    const { t, i18n } = useTranslation();
    const [sort, setSort] = useState("outcome");
    const columns = useMemo(
        (): Column<Result>[] => [
            { key: "machine", label: t("each.column.machine"), width: 25, sortBy: (r) => r.machine.name, cell: (r) => r.machine.name },
            { key: "outcome", label: t("each.column.outcome"), width: 20, sortBy: (r) => OUTCOMES.indexOf(r.outcome), cell: (r) => <Label color={colors[r.outcome]} isCompact>{t(`each.outcome.${r.outcome}`)}</Label> },
            { key: "why", label: t("each.column.why"), cell: (r) => r.problem ? <>{r.problem.detail || t("problem.status", { status: r.problem.status })}{r.problem.correction && <div className="lw-subtle">{r.problem.correction}</div>}</> : <span className="lw-subtle">–</span> },
        ],
        [t],
    );
    return (
        <div className="lw-each">
            <DataTable<Result> label={t("each.title")} columns={columns} rows={results} rowId={(r) => r.machine.id} rowName={(r) => r.machine.name} sort={sort} onSort={setSort} language={i18n.language} />
        </div>
    );
}
