// SPDX-License-Identifier: Apache-2.0
//
// Process nodes and vaults: health, load and room; sites, and what replicas of their machines get.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Progress, ProgressMeasureLocation } from "@patternfly/react-core/dist/dynamic/components/Progress";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { ClusterIcon } from "@patternfly/react-icons/dist/dynamic/icons/cluster-icon";
import { DatabaseIcon } from "@patternfly/react-icons/dist/dynamic/icons/database-icon";
import { MapMarkerIcon } from "@patternfly/react-icons/dist/dynamic/icons/map-marker-icon";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import { machinesQuery, type Node, nodesQuery, type Site, sitesQuery, type Vault, vaultsQuery } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { HealthLabel } from "../../widgets/labels";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { Switch } from "../../widgets/Switch";
import { useCause } from "../../words/useWords";
import { SiteMapping } from "../mapping/SiteMapping";
import { PeerForm } from "./PeerForm";
import { PeerLimits } from "./PeerLimits";
import { DeleteSite, SiteForm } from "./siteDialogs";

const rank = ["unknown", "healthy", "warning", "critical"];

function Name({ peer }: { peer: Node | Vault }) {
    return <><strong>{peer.name}</strong><Where peer={peer} /></>;
}

/** Its site, and where others reach it. */
function Where({ peer }: { peer: Node | Vault }) {
    return <div className="lw-subtle">{[peer.site_name, peer.endpoint].filter(Boolean).join(" · ")}</div>;
}

function Health({ peer }: { peer: Node | Vault }) {
    const { cause } = useCause()(peer);
    return <><HealthLabel health={peer.health} />{cause && <div className="lw-subtle lw-cause">{cause}</div>}</>;
}

/** How full something is, with both numbers. */
function Fill({ used, total, label }: { used: number; total: number; label: string }) {
    const { bytes, percent } = useFormat();
    const share = total > 0 ? Math.min(1, used / total) : 0;
    const variant = share > 0.95 ? "danger" : share > 0.8 ? "warning" : undefined;
    return (
        <>
            <Progress value={share * 100} label={percent(share)} size="sm" variant={variant} measureLocation={ProgressMeasureLocation.outside} aria-label={label} className="lw-cell-progress" />
            <div className="lw-subtle">{bytes(used)} / {bytes(total)}</div>
        </>
    );
}

function useSwitchOptions() {
    const { t } = useTranslation("infrastructure");
    return <Above label={t("show.label")} nodes={t("show.nodes")} vaults={t("show.vaults")} sites={t("show.sites")} />;
}

function Above({ label, nodes, vaults, sites }: { label: string; nodes: string; vaults: string; sites: string }) {
    const show = useSearch({ from: "/shell/infrastructure" }).show ?? "nodes";
    return <Switch label={label} value={show} options={[{ value: "nodes", text: nodes }, { value: "vaults", text: vaults }, { value: "sites", text: sites }]} />;
}

function Nodes() {
    const { t } = useTranslation("infrastructure");
    const causeOf = useCause();
    const { number, rate, percent } = useFormat();
    const client = useQueryClient();
    const may = useMay("admin");
    const query = useQuery(nodesQuery);
    const [limited, setLimited] = useState<Node>();
    const [edited, setEdited] = useState<Node>();
    const drain = useMutation({
        mutationFn: (node: Node) => call(api.PATCH("/api/v1/nodes/{node_id}", { params: { path: { node_id: node.id }, header: ifMatch(node) }, body: { drain: !node.drain } })),
        onSettled: () => client.invalidateQueries({ queryKey: ["nodes"] }),
    });
    const columns: Column<Node>[] = [
        { key: "name", label: t("column.name"), width: 20, sortBy: (n) => n.name, cell: (n) => <Name peer={n} /> },
        { key: "health", label: t("column.health"), sortBy: (n) => -rank.indexOf(n.health), cell: (n) => <Health peer={n} /> },
        { key: "machines", label: t("column.machines"), isNumber: true, sortBy: (n) => n.machine_count, cell: (n) => <Link to="/machines" search={{ node: n.id }} className="lw-link">{number(n.machine_count)}</Link> },
        { key: "spool", label: t("column.spool"), width: 15, sortBy: (n) => n.spool_bytes / Math.max(1, n.spool_limit_bytes), cell: (n) => <Fill used={n.spool_bytes} total={n.spool_limit_bytes} label={`${t("column.spool")} ${n.name}`} /> },
        { key: "in", label: t("column.in"), isNumber: true, sortBy: (n) => n.received_bytes_per_second, cell: (n) => <>{rate(n.received_bytes_per_second)}<div className="lw-subtle">{t("forwarded", { rate: rate(n.forwarded_bytes_per_second) })}</div></> },
        { key: "cpu", label: t("column.cpu"), isNumber: true, sortBy: (n) => n.cpu_percent, cell: (n) => percent(n.cpu_percent / 100) },
        { key: "seen", label: t("column.seen"), sortBy: (n) => n.last_seen_at, cell: (n) => <Moment at={n.last_seen_at} /> },
    ];
    return (
        <ListPage<Node>
            title={t("title")}
            text={t("text")}
            query={query}
            columns={columns}
            rowId={(n) => n.id}
            rowName={(n) => n.name}
            words={(n) => `${n.name} ${n.endpoint} ${n.site_name ?? ""} ${causeOf(n).cause}`}
            sort="name"
            none={{ title: t("noNodes"), text: t("noNodesText"), icon: ClusterIcon }}
            rowActions={may ? (n) => (
                <Flex columnGap={{ default: "columnGapMd" }}>
                    <Button variant="link" isInline data-action="edit" onClick={() => setEdited(n)}>{t("edit")}</Button>
                    <Button variant="link" isInline isDisabled={drain.isPending} onClick={() => drain.mutate(n)}>{n.drain ? t("undrain") : t("drain")}</Button>
                    <Button variant="link" isInline onClick={() => setLimited(n)}>{t("limits")}</Button>
                </Flex>
            ) : undefined}
            above={<>{useSwitchOptions()}<ProblemAlert error={drain.error} />{limited && <PeerLimits kind="node" peer={limited} onClose={() => setLimited(undefined)} />}{edited && <PeerForm kind="node" peer={edited} onClose={() => setEdited(undefined)} />}</>}
        />
    );
}

function Vaults() {
    const { t } = useTranslation("infrastructure");
    const causeOf = useCause();
    const { number } = useFormat();
    const navigate = useNavigate();
    const may = useMay("operator");
    const mayEdit = useMay("admin");
    const query = useQuery(vaultsQuery);
    const [edited, setEdited] = useState<Vault>();
    const [limited, setLimited] = useState<Vault>();
    const verify = useMutation({
        mutationFn: (vault: Vault) => call(api.POST("/api/v1/vaults/{vault_id}/verify", { params: { path: { vault_id: vault.id } }, body: {} })),
        onSuccess: (job) => void navigate({ to: "/jobs/$jobId", params: { jobId: job.id } }),
    });
    const columns: Column<Vault>[] = [
        { key: "name", label: t("column.name"), width: 20, sortBy: (v) => v.name, cell: (v) => <><Link to="/vaults/$vaultId" params={{ vaultId: v.id }} className="lw-link"><strong>{v.name}</strong></Link><Where peer={v} /></> },
        { key: "health", label: t("column.health"), width: 20, sortBy: (v) => -rank.indexOf(v.health), cell: (v) => <Health peer={v} /> },
        { key: "machines", label: t("column.machines"), isNumber: true, sortBy: (v) => v.machine_count, cell: (v) => <Link to="/machines" search={{ vault: v.id }} className="lw-link">{number(v.machine_count)}</Link> },
        { key: "used", label: t("column.used"), width: 25, sortBy: (v) => (v.capacity_bytes - v.free_bytes) / Math.max(1, v.capacity_bytes), cell: (v) => <Fill used={v.capacity_bytes - v.free_bytes} total={v.capacity_bytes} label={`${t("column.used")} ${v.name}`} /> },
        { key: "streams", label: t("column.streams"), isNumber: true, sortBy: (v) => v.streams, cell: (v) => number(v.streams) },
        { key: "seen", label: t("column.seen"), sortBy: (v) => v.last_seen_at, cell: (v) => <Moment at={v.last_seen_at} /> },
    ];
    return (
        <ListPage<Vault>
            title={t("title")}
            text={t("text")}
            query={query}
            columns={columns}
            rowId={(v) => v.id}
            rowName={(v) => v.name}
            words={(v) => `${v.name} ${v.endpoint} ${v.site_name ?? ""} ${causeOf(v).cause}`}
            sort="name"
            none={{ title: t("noVaults"), text: t("noVaultsText"), icon: DatabaseIcon }}
            rowActions={may ? (v) => (
                <Flex columnGap={{ default: "columnGapMd" }}>
                    {mayEdit && <Button variant="link" isInline data-action="edit" onClick={() => setEdited(v)}>{t("edit")}</Button>}
                    {mayEdit && <Button variant="link" isInline data-action="limits" onClick={() => setLimited(v)}>{t("limits")}</Button>}
                    <Button variant="link" isInline isDisabled={verify.isPending} onClick={() => verify.mutate(v)}>{t("verify")}</Button>
                </Flex>
            ) : undefined}
            above={<>{useSwitchOptions()}<ProblemAlert error={verify.error} />{edited && <PeerForm kind="vault" peer={edited} onClose={() => setEdited(undefined)} />}{limited && <PeerLimits kind="vault" peer={limited} onClose={() => setLimited(undefined)} />}</>}
        />
    );
}

/** How much stands at a site. */
function useCounts() {
    const machines = useQuery(machinesQuery).data;
    const nodes = useQuery(nodesQuery).data;
    const vaults = useQuery(vaultsQuery).data;
    const at = (site: Site, list: { site_id: string | null }[] | undefined) => list?.filter((one) => one.site_id === site.id).length ?? 0;
    return (site: Site) => ({ machines: at(site, machines), nodes: at(site, nodes), vaults: at(site, vaults) });
}

function Sites() {
    const { t } = useTranslation("infrastructure");
    const { number } = useFormat();
    const may = useMay("admin");
    const query = useQuery(sitesQuery);
    const countOf = useCounts();
    const [mapped, setMapped] = useState<Site>();
    const [edited, setEdited] = useState<Site | "new">();
    const [removed, setRemoved] = useState<Site>();
    const columns: Column<Site>[] = [
        { key: "name", label: t("column.name"), width: 30, sortBy: (s) => s.name, cell: (s) => <strong>{s.name}</strong> },
        { key: "description", label: t("column.description"), cell: (s) => s.description },
        { key: "machines", label: t("column.machines"), isNumber: true, sortBy: (s) => countOf(s).machines, cell: (s) => <Link to="/machines" search={{ site: s.id }} className="lw-link">{number(countOf(s).machines)}</Link> },
        { key: "nodes", label: t("column.nodes"), isNumber: true, sortBy: (s) => countOf(s).nodes, cell: (s) => number(countOf(s).nodes) },
        { key: "vaults", label: t("column.vaults"), isNumber: true, sortBy: (s) => countOf(s).vaults, cell: (s) => number(countOf(s).vaults) },
    ];
    return (
        <ListPage<Site>
            title={t("show.sites")}
            text={t("sitesText")}
            query={query}
            columns={columns}
            rowId={(s) => s.id}
            rowName={(s) => s.name}
            words={(s) => `${s.name} ${s.description}`}
            sort="name"
            none={{ title: t("noSites"), text: t("noSitesText"), icon: MapMarkerIcon }}
            headerActions={may && <Button id="add-site" onClick={() => setEdited("new")}>{t("site.add")}</Button>}
            rowActions={(s) => (
                <Flex columnGap={{ default: "columnGapMd" }}>
                    {may && <Button variant="link" isInline data-action="edit" onClick={() => setEdited(s)}>{t("edit")}</Button>}
                    <Button variant="link" isInline data-action="mapping" onClick={() => setMapped(s)}>{t("mapping")}</Button>
                    {may && <Button variant="link" isInline isDanger data-action="delete" onClick={() => setRemoved(s)}>{t("site.delete")}</Button>}
                </Flex>
            )}
            above={
                <>
                    {useSwitchOptions()}
                    {mapped && <SiteMapping site={mapped} onClose={() => setMapped(undefined)} />}
                    {edited && <SiteForm site={edited === "new" ? undefined : edited} onClose={() => setEdited(undefined)} />}
                    {removed && <DeleteSite site={removed} onClose={() => setRemoved(undefined)} />}
                </>
            }
        />
    );
}

export function InfrastructurePage() {
    const show = useSearch({ from: "/shell/infrastructure" }).show;
    return show === "vaults" ? <Vaults /> : show === "sites" ? <Sites /> : <Nodes />;
}
