// SPDX-License-Identifier: Apache-2.0
//
// How things stand, in one answer of the hub. Each number leads to the list behind it.
import { Card, CardBody, CardTitle } from "@patternfly/react-core/dist/dynamic/components/Card";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { Gallery, GalleryItem } from "@patternfly/react-core/dist/dynamic/layouts/Gallery";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";

import { type Overview, overviewQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { Donut } from "../../widgets/Donut";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { CapacityList } from "./CapacityList";
import { ProblemList } from "./ProblemList";

function Tile({ title, children }: { title: string; children: ReactNode }) {
    return (
        <GalleryItem>
            <Card isFullHeight component="section">
                <CardTitle component="h2">{title}</CardTitle>
                <CardBody>{children}</CardBody>
            </Card>
        </GalleryItem>
    );
}

function HealthDonut({ overview }: { overview: Overview }) {
    const { t } = useTranslation("overview");
    const { t: common } = useTranslation();
    const colors = { critical: "danger", warning: "warning", healthy: "success", unknown: "unknown" } as const;
    const slices = (["critical", "warning", "healthy", "unknown"] as const).map((key) => ({
        key, label: common(`health.${key}`), value: overview.health[key], color: colors[key], to: "/machines" as const, search: { health: key },
    }));
    return <Donut slices={slices} title={t("machines", { count: overview.machines.total })} />;
}

function RpoDonut({ overview }: { overview: Overview }) {
    const { t } = useTranslation("overview");
    const { percent } = useFormat();
    const { met, not_met: missed, unknown } = overview.rpo;
    const slices = [
        { key: "met", label: t("rpo.met"), value: met, color: "success" as const, to: "/machines" as const, search: { rpo: "met" } },
        { key: "not_met", label: t("rpo.not_met"), value: missed, color: "danger" as const, to: "/machines" as const, search: { rpo: "not_met" } },
        { key: "unknown", label: t("rpo.unknown"), value: unknown, color: "unknown" as const, to: "/machines" as const, search: { rpo: "unknown" } },
    ];
    return <Donut slices={slices} title={t("rpo.middle")} middle={met + missed > 0 ? percent(met / (met + missed)) : "–"} />;
}

function DrillDonut({ overview }: { overview: Overview }) {
    const { t } = useTranslation("overview");
    const { percent } = useFormat();
    const { fresh, overdue, pending, uncovered } = overview.drills;
    const all = fresh + overdue + pending + uncovered;
    const of = (key: "fresh" | "overdue" | "pending" | "uncovered", value: number, color: "success" | "danger" | "warning" | "unknown") => ({ key, label: t(`drills.${key}`), value, color, to: "/drills" as const, search: { show: key } });
    const slices = [
        of("overdue", overdue, "danger"), of("pending", pending, "warning"), of("fresh", fresh, "success"), of("uncovered", uncovered, "unknown"),
    ];
    return <Donut slices={slices} title={t("drills.middle")} middle={all > 0 ? percent(fresh / all) : "–"} />;
}

function Figure({ value, children }: { value: number; children: ReactNode }) {
    const { number } = useFormat();
    return (
        <div className="lw-figure">
            <span className="lw-figure-number lw-number">{number(value)}</span>
            {children}
        </div>
    );
}

function Tiles({ overview }: { overview: Overview }) {
    const { t } = useTranslation("overview");
    return (
        <Gallery hasGutter minWidths={{ default: "100%", md: "22rem" }}>
            <Tile title={t("title.health")}><HealthDonut overview={overview} /></Tile>
            <Tile title={t("title.rpo")}><RpoDonut overview={overview} /></Tile>
            <Tile title={t("title.drills")}><DrillDonut overview={overview} /></Tile>
            <Tile title={t("title.problems")}><ProblemList problems={overview.problems} /></Tile>
            <Tile title={t("title.jobs")}>
                <div className="lw-figures">
                    <Figure value={overview.jobs.running}><Link to="/jobs" search={{ show: "running" }} className="lw-link">{t("jobs.running")}</Link></Figure>
                    <Figure value={overview.jobs.waiting_for_input}><Link to="/jobs" search={{ show: "waiting" }} className="lw-link">{t("jobs.waiting")}</Link></Figure>
                    <Figure value={overview.jobs.failed_24h}><Link to="/jobs" search={{ show: "failed_24h" }} className="lw-link">{t("jobs.failed")}</Link></Figure>
                </div>
            </Tile>
            <Tile title={t("title.capacity")}><CapacityList vaults={overview.capacity} /></Tile>
            <Tile title={t("title.protection")}>
                <div className="lw-figures">
                    <Figure value={overview.machines.protected}><Link to="/machines" search={{ state: "protected" }} className="lw-link">{t("protection.protected")}</Link></Figure>
                    <Figure value={overview.machines.unprotected}><Link to="/machines" search={{ state: "unprotected" }} className="lw-link">{t("protection.unprotected")}</Link></Figure>
                </div>
            </Tile>
        </Gallery>
    );
}

export function OverviewPage() {
    const { t } = useTranslation("overview");
    const { data, error, isPending } = useQuery(overviewQuery);
    return (
        <>
            <PageHeader title={t("title.page")} />
            <PageSection hasBodyWrapper={false} isFilled>
                <ProblemAlert error={error} />
                {isPending && <Skeleton height="20rem" screenreaderText={t("loading")} />}
                {data && <Tiles overview={data} />}
            </PageSection>
        </>
    );
}
