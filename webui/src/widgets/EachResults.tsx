// SPDX-License-Identifier: Apache-2.0
//
// What became of each of many: what needs somebody first.
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { useMemo, useState } from "react";
import { useTranslation } from "react-i18next";

import { type Named, OUTCOMES, type Outcome, type Result } from "../api/each";
import { type Column, DataTable } from "./DataTable";

/** What is counted: each has words of its own (in Chinese a measure word, too). */
export type Thing = "machine" | "alert";

const colors = { done: "green", already: "grey", held: "orange", refused: "red", skipped: "grey" } as const;

/** "10 done, 2 not done" */
export function useEachSummary(thing: Thing) {
    const { t } = useTranslation();
    return (results: { outcome: Outcome }[]) => {
        const count = (outcome: Outcome) => results.filter((result) => result.outcome === outcome).length;
        return [...OUTCOMES].reverse().filter((outcome) => count(outcome) > 0).map((outcome) => t(`each.${thing}.summary.${outcome}`, { count: count(outcome) })).join(", ");
    };
}

export function EachResults<T extends Named>({ thing, results }: { thing: Thing; results: Result<T>[] }) {
    const { t, i18n } = useTranslation();
    const [sort, setSort] = useState("outcome");
    const columns = useMemo(
        (): Column<Result<T>>[] => [
            { key: "name", label: t(`each.${thing}.column`), width: 25, sortBy: (r) => r.item.name, cell: (r) => r.item.name },
            { key: "outcome", label: t("each.column.outcome"), width: 20, sortBy: (r) => OUTCOMES.indexOf(r.outcome), cell: (r) => <Label color={colors[r.outcome]} isCompact>{t(`each.${thing}.outcome.${r.outcome}`)}</Label> },
            { key: "why", label: t("each.column.why"), cell: (r) => r.problem ? <>{r.problem.detail || t("problem.status", { status: r.problem.status })}{r.problem.correction && <div className="lw-subtle">{r.problem.correction}</div>}</> : <span className="lw-subtle">–</span> },
        ],
        [t, thing],
    );
    return (
        <div className="lw-each">
            <DataTable<Result<T>> label={t(`each.${thing}.title`)} columns={columns} rows={results} rowId={(r) => r.item.id} rowName={(r) => r.item.name} sort={sort} onSort={setSort} language={i18n.language} />
        </div>
    );
}
