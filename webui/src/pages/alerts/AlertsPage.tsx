// SPDX-License-Identifier: Apache-2.0
//
// What is wrong and what was: each with its cause, its remedy and who takes care of it.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { EmptyState, EmptyStateBody } from "@patternfly/react-core/dist/dynamic/components/EmptyState";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core/dist/dynamic/components/Toolbar";
import { CheckCircleIcon } from "@patternfly/react-icons/dist/dynamic/icons/check-circle-icon";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { useTranslation } from "react-i18next";

import { type Alert, alertsQuery } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { useAlertTitle } from "../../widgets/alertTitle";
import { type Column, DataTable } from "../../widgets/DataTable";
import { FilterSelect } from "../../widgets/FilterSelect";
import { HealthLabel } from "../../widgets/labels";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { listOf } from "../../widgets/searchList";
import { useWords } from "../../words/useWords";
import { AcknowledgeDialog } from "./AcknowledgeDialog";
import { AlertSubject } from "./AlertSubject";
import { ALERT_SEVERITIES, ALERT_STATES, type AlertSearch } from "./route";

const colors = { firing: "red", acknowledged: "blue", resolved: "grey" } as const;

function useColumns(): Column<Alert>[] {
    const { t } = useTranslation("alerts");
    const { ago } = useFormat();
    const title = useAlertTitle();
    const { finding } = useWords();
    return useMemo(
        () => [
            { key: "severity", label: t("column.severity"), width: 10, sortBy: (a) => (a.severity === "critical" ? 0 : 1), cell: (a) => <HealthLabel health={a.severity} /> },
            {
                key: "title",
                label: t("column.title"),
                width: 40,
                sortBy: (a) => a.code,
                cell: (a) => {
                    const { cause, remedy } = finding(a.code, a.values, a);
                    return (
                        <>
                            <strong>{title(a.code, a.title)}</strong>
                            <div className="lw-subtle">{cause}</div>
                            {remedy && <div className="lw-subtle">{t("remedy")} {remedy}</div>}
                        </>
                    );
                },
            },
            {
                key: "subject",
                label: t("column.subject"),
                width: 15,
                sortBy: (a) => a.subject_name,
                cell: (a) => <AlertSubject alert={a} />,
            },
            {
                key: "state",
                label: t("column.state"),
                width: 15,
                sortBy: (a) => ALERT_STATES.indexOf(a.state),
                cell: (a) => (
                    <>
                        <Label isCompact color={colors[a.state]}>{t(`state.${a.state}`)}</Label>
                        {a.state !== "firing" && a.acknowledged_by && <div className="lw-subtle">{a.note ? t("takenOnWith", { name: a.acknowledged_by, note: a.note }) : t("takenOn", { name: a.acknowledged_by })}</div>}
                    </>
                ),
            },
            { key: "since", label: t("column.since"), sortBy: (a) => a.since ?? a.raised_at, cell: (a) => ago(a.since ?? a.raised_at ?? "") },
        ],
        [t, ago, title, finding],
    );
}

export function AlertsPage() {
    const { t, i18n } = useTranslation("alerts");
    const { t: common } = useTranslation();
    const { number } = useFormat();
    const search = useSearch({ from: "/shell/alerts" });
    const navigate = useNavigate({ from: "/alerts" });
    const { data, error, isPending } = useQuery(alertsQuery({ code: search.code }));
    const columns = useColumns();
    const title = useAlertTitle();
    const mayAct = useMay("operator");
    const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set());
    const [asked, setAsked] = useState<Alert[]>();
    const change = (changes: Partial<AlertSearch>) => void navigate({ search: (before) => ({ ...before, ...changes }), replace: true });
    const states = listOf(search.state, ALERT_STATES) ?? ["firing", "acknowledged"];
    const severities = listOf(search.severity, ALERT_SEVERITIES);
    // What is ticked and out of sight, or taken on by somebody meanwhile, is not meant.
    const shown = (data ?? []).filter((a) => states.includes(a.state) && (!severities || severities.includes(a.severity)));
    const meant = shown.filter((a) => a.state === "firing" && ticked.has(a.id));
    const close = (left?: Alert[]) => {
        setAsked(undefined);
        if (left) setTicked(new Set(left.map((a) => a.id)));
    };
    return (
        <>
            <PageHeader title={t("title")} text={search.code && title(search.code, search.code)} />
            <PageSection hasBodyWrapper={false} isFilled>
                <ProblemAlert error={error} />
                <Toolbar inset={{ default: "insetNone" }} className="lw-toolbar">
                    <ToolbarContent>
                        <ToolbarItem>
                            <FilterSelect id="filter-state" label={t("column.state")} options={ALERT_STATES.map((value) => ({ value, text: t(`state.${value}`) }))} chosen={states} onChange={(chosen) => change({ state: chosen.join(",") || undefined })} />
                        </ToolbarItem>
                        <ToolbarItem>
                            <FilterSelect id="filter-severity" label={t("column.severity")} options={ALERT_SEVERITIES.map((value) => ({ value, text: common(`health.${value}`) }))} chosen={severities ?? []} onChange={(chosen) => change({ severity: chosen.join(",") || undefined })} />
                        </ToolbarItem>
                        {search.code && <ToolbarItem><Button variant="link" onClick={() => change({ code: undefined })}>{t("allCodes")}</Button></ToolbarItem>}
                        {meant.length > 0 && <ToolbarItem><Button id="bulk-acknowledge" variant="secondary" onClick={() => setAsked(meant)}>{t("acknowledgeMany", { count: meant.length, number: number(meant.length) })}</Button></ToolbarItem>}
                    </ToolbarContent>
                </Toolbar>
                {isPending ? (
                    <Skeleton height="16rem" screenreaderText={common("loading")} />
                ) : (
                    <DataTable<Alert>
                        label={t("title")}
                        columns={columns}
                        rows={shown}
                        rowId={(alert) => alert.id}
                        rowName={(alert) => alert.subject_name}
                        sort={search.sort ?? "severity"}
                        onSort={(sort) => change({ sort })}
                        selection={mayAct ? { ids: ticked, onChange: setTicked } : undefined}
                        actions={mayAct ? (alert) => alert.state === "firing" && <Button variant="secondary" size="sm" onClick={() => setAsked([alert])}>{t("acknowledge")}</Button> : undefined}
                        empty={<EmptyState titleText={t("none")} headingLevel="h2" icon={CheckCircleIcon}><EmptyStateBody>{t("noneText")}</EmptyStateBody></EmptyState>}
                        language={i18n.language}
                    />
                )}
                {asked && <AcknowledgeDialog alerts={asked} onClose={close} />}
            </PageSection>
        </>
    );
}
