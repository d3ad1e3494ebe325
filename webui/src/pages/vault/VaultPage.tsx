// SPDX-License-Identifier: Apache-2.0
//
// One vault: how it is, what there is room for, and the copies that it keeps of machines that are replicated to other vaults.
import { Breadcrumb, BreadcrumbItem } from "@patternfly/react-core/dist/dynamic/components/Breadcrumb";
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Card, CardBody, CardTitle } from "@patternfly/react-core/dist/dynamic/components/Card";
import { DescriptionList, DescriptionListDescription, DescriptionListGroup, DescriptionListTerm } from "@patternfly/react-core/dist/dynamic/components/DescriptionList";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { type Vault, vaultsQuery } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { DataTable } from "../../widgets/DataTable";
import { HealthLabel } from "../../widgets/labels";
import { Moment } from "../../widgets/Moment";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { useCause } from "../../words/useWords";
import { useCopyColumns } from "../copies/copyColumns";
import { type Copy, vaultCopiesQuery } from "../copies/copyQueries";
import { PeerForm } from "../infrastructure/PeerForm";

const spaceQuery = (id: string) => ({
    queryKey: ["vaults", id, "space"],
    queryFn: () => call(api.GET("/api/v1/vaults/{vault_id}/space", { params: { path: { vault_id: id } } })),
    refetchInterval: 30_000,
});

function Facts({ vault }: { vault: Vault }) {
    const { t } = useTranslation("vault");
    const { bytes, rate, percent, number, ago } = useFormat();
    const { data: space } = useQuery(spaceQuery(vault.id));
    const used = vault.capacity_bytes - vault.free_bytes;
    const full = !space?.forecast_known ? t("notKnown") : space.full_at ? ago(space.full_at) : t("notFull");
    const rows: [string, ReactNode][] = [
        [t("endpoint"), vault.endpoint],
        [t("host"), vault.host || "–"],
        [t("site"), vault.site_name ?? "–"],
        [t("software"), vault.software || "–"],
        [t("seen"), <Moment key="seen" at={vault.last_seen_at} />],
        [t("machines"), <Link key="machines" to="/machines" search={{ vault: vault.id }} className="lw-link">{number(vault.machine_count)}</Link>],
        [t("disk"), vault.capacity_bytes > 0 ? t("diskText", { used: bytes(used), total: bytes(vault.capacity_bytes), share: percent(used / vault.capacity_bytes) }) : "–"],
        [t("growth"), space?.forecast_known ? t("perDay", { size: bytes(space.growth_bytes_per_day) }) : t("notKnown")],
        [t("full"), full],
        [t("limits"), vault.throttle_bytes_per_second > 0 ? rate(vault.throttle_bytes_per_second) : t("noLimit")],
    ];
    return (
        <Card component="section">
            <CardTitle component="h2">{t("facts")}</CardTitle>
            <CardBody>
                <DescriptionList columnModifier={{ default: "1Col", md: "2Col", xl: "3Col" }} isCompact>
                    {rows.map(([term, text]) => <DescriptionListGroup key={term}><DescriptionListTerm>{term}</DescriptionListTerm><DescriptionListDescription className="lw-number">{text}</DescriptionListDescription></DescriptionListGroup>)}
                </DescriptionList>
            </CardBody>
        </Card>
    );
}

function Copies({ vault }: { vault: Vault }) {
    const { t, i18n } = useTranslation("vault");
    const { t: common } = useTranslation();
    const columns = useCopyColumns("vault");
    const [sort, setSort] = useState("machine");
    const { data, error } = useQuery(vaultCopiesQuery(vault.id));
    return (
        <Card className="lw-above" component="section" id="kept-copies">
            <CardTitle component="h2">{t("copies")}</CardTitle>
            <CardBody>
                <p className="lw-subtle">{t("copiesText")}</p>
                <ProblemAlert error={error} />
                {data ? (
                    <DataTable<Copy> label={t("copies")} columns={columns} rows={data} rowId={(copy) => copy.machine_id} rowName={(copy) => copy.machine_name} sort={sort} onSort={setSort} isShort={data.length < 30} language={i18n.language} empty={<p>{t("noCopies")}</p>} />
                ) : (
                    !error && <Skeleton height="8rem" screenreaderText={common("loading")} />
                )}
            </CardBody>
        </Card>
    );
}

function VaultBody({ vault }: { vault: Vault }) {
    const { t } = useTranslation("vault");
    const { t: list } = useTranslation("infrastructure");
    const may = useMay("admin");
    const [editing, setEditing] = useState(false);
    const { cause, remedy } = useCause()(vault);
    return (
        <>
            <PageSection hasBodyWrapper={false} type="breadcrumb">
                <Breadcrumb aria-label={t("breadcrumb")}>
                    <BreadcrumbItem render={({ className }) => <Link to="/infrastructure" search={{ show: "vaults" }} className={className}>{list("show.vaults")}</Link>} />
                    <BreadcrumbItem isActive>{vault.name}</BreadcrumbItem>
                </Breadcrumb>
            </PageSection>
            <PageHeader title={vault.name} text={vault.endpoint} labels={<HealthLabel health={vault.health} />} actions={may && <Button id="edit-vault" variant="secondary" onClick={() => setEditing(true)}>{list("edit")}</Button>} />
            <PageSection hasBodyWrapper={false} isFilled>
                {cause && <Notice variant={vault.health === "critical" ? "danger" : "warning"} isInline title={cause} component="h2" className="lw-below">{remedy && <p>{remedy}</p>}</Notice>}
                <Facts vault={vault} />
                <Copies vault={vault} />
                {editing && <PeerForm kind="vault" peer={vault} onClose={() => setEditing(false)} />}
            </PageSection>
        </>
    );
}

/** One of the list, which moves by itself. */
export function VaultPage() {
    const { t } = useTranslation("vault");
    const { t: common } = useTranslation();
    const { vaultId } = useParams({ from: "/shell/vaults/$vaultId" });
    const { data, error } = useQuery(vaultsQuery);
    const vault = data?.find((one) => one.id === vaultId);
    if (vault) return <VaultBody vault={vault} />;
    return (
        <PageSection hasBodyWrapper={false} isFilled>
            {error ? <ProblemAlert error={error} /> : data ? <Notice variant="warning" isInline component="h1" title={t("gone")} /> : <Skeleton height="16rem" screenreaderText={common("loading")} />}
        </PageSection>
    );
}
