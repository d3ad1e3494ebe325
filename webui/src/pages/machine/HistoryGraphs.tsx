// SPDX-License-Identifier: Apache-2.0
//
// RPO against its target, and what changes against what is sent. Time in which nothing was measured is a gap.
import { Card, CardBody, CardTitle } from "@patternfly/react-core/dist/dynamic/components/Card";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { ToggleGroup, ToggleGroupItem } from "@patternfly/react-core/dist/dynamic/components/ToggleGroup";
import { Gallery } from "@patternfly/react-core/dist/dynamic/layouts/Gallery";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useMemo } from "react";
import { useTranslation } from "react-i18next";

import { type History, historyQuery, type Machine } from "../../api/queries";
import { BYTE_STEPS, useFormat } from "../../i18n/format";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import type { Series } from "../../widgets/Chart";
import { SPANS_H } from "./route";

const Chart = lazy(async () => ({ default: (await import("../../widgets/Chart")).Chart }));

function SpanChoice({ hours }: { hours: number }) {
    const { t } = useTranslation("machine");
    const { span } = useFormat();
    const navigate = useNavigate({ from: "/machines/$machineId" });
    return (
        <ToggleGroup aria-label={t("graph.span")} isCompact className="lw-below">
            {SPANS_H.map((h) => (
                <ToggleGroupItem key={h} text={span(h * 3600)} buttonId={`span-${h}`} isSelected={h === hours} onChange={() => void navigate({ search: (before) => ({ ...before, hours: h }), replace: true })} />
            ))}
        </ToggleGroup>
    );
}

function Graphs({ history }: { history: History }) {
    const { t } = useTranslation("machine");
    const { span, rate, rateMark } = useFormat();
    const times = useMemo(() => {
        const from = history.from ? Date.parse(history.from) / 1000 : 0;
        return Array.from({ length: history.count }, (_, i) => from + i * history.step_seconds);
    }, [history]);
    const rpo = useMemo<Series[]>(() => {
        const target = history.rpo_target_seconds;
        const measured: Series = { label: t("graph.rpo"), values: history.rpo_max_seconds, color: "--lw-blue" };
        return target ? [measured, { label: t("graph.target"), values: history.rpo_max_seconds.map(() => target), color: "--pf-t--global--color--status--danger--default", isTarget: true }] : [measured];
    }, [history, t]);
    const flow = useMemo<Series[]>(
        () => [
            { label: t("graph.changed"), values: history.changed_bytes_per_second, color: "--lw-orange" },
            { label: t("graph.sent"), values: history.sent_bytes_per_second, color: "--lw-teal" },
        ],
        [history, t],
    );
    if (history.count === 0) return <p className="lw-subtle">{t("graph.none")}</p>;
    return (
        <Gallery hasGutter minWidths={{ default: "100%", lg: "28rem" }}>
            <Card component="section">
                <CardTitle component="h2">{t("graph.rpoTitle")}</CardTitle>
                <CardBody><Chart title={t("graph.rpoTitle")} times={times} series={rpo} format={span} /></CardBody>
            </Card>
            <Card component="section">
                <CardTitle component="h2">{t("graph.flowTitle")}</CardTitle>
                <CardBody><Chart title={t("graph.flowTitle")} times={times} series={flow} format={rate} marks={{ steps: BYTE_STEPS, format: rateMark }} /></CardBody>
            </Card>
        </Gallery>
    );
}

export function HistoryGraphs({ machine }: { machine: Machine }) {
    const { t } = useTranslation();
    const { hours = 6 } = useSearch({ from: "/shell/machines/$machineId" });
    const { data, error } = useQuery(historyQuery(machine.id, hours));
    const waiting = <Skeleton height="18rem" screenreaderText={t("loading")} />;
    return (
        <>
            <SpanChoice hours={hours} />
            <ProblemAlert error={error} />
            <Suspense fallback={waiting}>{data ? <Graphs history={data} /> : !error && waiting}</Suspense>
        </>
    );
}
