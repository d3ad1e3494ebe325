// SPDX-License-Identifier: Apache-2.0
import { Progress, ProgressMeasureLocation } from "@patternfly/react-core/dist/dynamic/components/Progress";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { copyShare, isCopying } from "../../widgets/copyProgress";
import type { Column } from "../../widgets/DataTable";
import { HealthLabel, HEALTHS, StateLabel, STATES } from "../../widgets/labels";
import { useCause } from "../../words/useWords";
import { rpoIsMet } from "./machineSearch";

/** The state, and how far a copy is. */
function StateCell({ machine }: { machine: Machine }) {
    const { percent } = useFormat();
    const share = copyShare(machine);
    return (
        <>
            <StateLabel state={machine.state} />
            {isCopying(machine) && (
                <Progress value={share * 100} label={percent(share)} size="sm" measureLocation={ProgressMeasureLocation.outside} aria-label={machine.name} className="lw-cell-progress" />
            )}
        </>
    );
}

function RpoCell({ machine, targetOf }: { machine: Machine; targetOf: (policyId: string) => number | undefined }) {
    const { t } = useTranslation("machines");
    const { span } = useFormat();
    if (machine.rpo_seconds === null) return <span className="lw-subtle">–</span>;
    const isLate = rpoIsMet(machine, targetOf) === "not_met";
    return <span className={isLate ? "lw-late" : undefined}>{span(machine.rpo_seconds)}{isLate && <span className="pf-v6-u-screen-reader"> {t("rpo.notMet")}</span>}</span>;
}

export function useMachineColumns(targetOf: (policyId: string) => number | undefined): Column<Machine>[] {
    const { t } = useTranslation("machines");
    const { rate, bytes } = useFormat();
    const causeOf = useCause();
    return useMemo(
        () => [
            {
                key: "name",
                label: t("column.name"),
                width: 20,
                sortBy: (m) => m.name,
                cell: (m) => (
                    <>
                        <Link to="/machines/$machineId" params={{ machineId: m.id }} className="lw-link"><strong>{m.name}</strong></Link>
                        <div className="lw-subtle">{m.online ? m.os_name : t("offline")}</div>
                    </>
                ),
            },
            {
                key: "health",
                label: t("column.health"),
                width: 20,
                sortBy: (m) => -["unknown", "healthy", "warning", "critical"].indexOf(m.health) * HEALTHS.length,
                cell: (m) => (
                    <>
                        <HealthLabel health={m.health} />
                        {m.cause && <div className="lw-subtle lw-cause">{causeOf(m).cause}</div>}
                    </>
                ),
            },
            { key: "state", label: t("column.state"), width: 15, sortBy: (m) => STATES.indexOf(m.state), cell: (m) => <StateCell machine={m} /> },
            { key: "rpo", label: t("column.rpo"), isNumber: true, sortBy: (m) => m.rpo_seconds, cell: (m) => <RpoCell machine={m} targetOf={targetOf} /> },
            {
                key: "churn",
                label: t("column.churn"),
                isNumber: true,
                sortBy: (m) => m.changed_bytes_per_second,
                cell: (m) => (m.state === "unprotected" ? <span className="lw-subtle">–</span> : rate(m.changed_bytes_per_second)),
            },
            { key: "backlog", label: t("column.backlog"), isNumber: true, sortBy: (m) => m.backlog_bytes, cell: (m) => (m.backlog_bytes ? bytes(m.backlog_bytes) : <span className="lw-subtle">–</span>) },
            { key: "policy", label: t("column.policy"), sortBy: (m) => m.policy_name, cell: (m) => m.policy_name ?? <span className="lw-subtle">–</span> },
            { key: "site", label: t("column.site"), sortBy: (m) => m.site_name, cell: (m) => m.site_name ?? <span className="lw-subtle">–</span> },
        ],
        [t, rate, bytes, targetOf, causeOf],
    );
}
