// SPDX-License-Identifier: Apache-2.0
//
// Where data flows: machines to process nodes to vaults, with the live lag on each line. A box or a line leads to its machines. The same is
// there as a list of links, for those who do not see or point.
import "@xyflow/react/dist/style.css";

import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type Edge, Handle, type Node as FlowNode, type NodeProps, Position, ReactFlow } from "@xyflow/react";
import { type CSSProperties, useMemo } from "react";
import { useTranslation } from "react-i18next";

import { machinesQuery, nodesQuery, vaultsQuery } from "../../api/queries";
import { useIsDark } from "../../app/theme";
import { useFormat } from "../../i18n/format";
import { HealthLabel } from "../../widgets/labels";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import type { MachineSearch } from "../machines/machineSearch";
import { type Box, layOut, type Line, ROW_Y } from "./mapLayout";

type BoxNode = FlowNode<{ box: Box }, "box">;

/** The list that a box stands for. */
function searchOf(box: Box): MachineSearch {
    const id = box.id.slice(2);
    if (box.layer === 1) return { node: id };
    if (box.layer === 2) return { vault: id };
    const first = box.machines[0];
    return { site: first?.site_id ?? "none", node: first?.node_id ?? "none", vault: first?.vault_id ?? "none" };
}

function useBoxName() {
    const { t } = useTranslation("map");
    return (box: Box) => box.name || t("machines", { count: box.machines.length });
}

function BoxView({ data: { box } }: NodeProps<BoxNode>) {
    const { t } = useTranslation("map");
    const name = useBoxName();
    return (
        <div className={`lw-map-box lw-map-${box.health}`}>
            {box.layer > 0 && <Handle type="target" position={Position.Left} isConnectable={false} />}
            <div className="lw-subtle">{t(`layer.${box.layer}`)}{box.site ? ` · ${box.site}` : ""}</div>
            <strong>{name(box)}</strong>
            <div><HealthLabel health={box.health} /></div>
            {box.layer < 2 && <Handle type="source" position={Position.Right} isConnectable={false} />}
        </div>
    );
}

const nodeTypes = { box: BoxView };

function Flow({ boxes, lines }: { boxes: Box[]; lines: Line[] }) {
    const { t } = useTranslation("map");
    const { span } = useFormat();
    const isDark = useIsDark();
    const navigate = useNavigate();
    const go = (box: Box | undefined) => box && void navigate({ to: "/machines", search: searchOf(box) });
    const nodes = boxes.map((box): BoxNode => ({ id: box.id, type: "box", position: { x: box.x, y: box.y }, data: { box }, draggable: false, connectable: false }));
    const edges = lines.map((line): Edge => ({
        id: line.id,
        source: line.from,
        target: line.to,
        label: line.lag === null ? "–" : span(line.lag),
        animated: line.health === "healthy",
        className: `lw-map-line lw-map-${line.health}`,
        focusable: false,
    }));
    return (
        <div className="lw-map" style={{ "--lw-map-rows": Math.max(1, ...boxes.map((box) => box.y / ROW_Y + 1)) } as CSSProperties} aria-hidden="true">
            <ReactFlow
                nodes={nodes}
                edges={edges}
                nodeTypes={nodeTypes}
                colorMode={isDark ? "dark" : "light"}
                fitView
                fitViewOptions={{ maxZoom: 1.1, padding: 0.1 }}
                minZoom={0.1}
                zoomOnScroll={false}
                preventScrolling={false}
                nodesFocusable={false}
                edgesFocusable={false}
                elementsSelectable={false}
                proOptions={{ hideAttribution: true }}
                onNodeClick={(_event, node) => go(node.data.box)}
                onEdgeClick={(_event, edge) => go(boxes.find((box) => box.id === edge.source))}
                aria-label={t("title")}
            />
        </div>
    );
}

function FlowList({ boxes, lines }: { boxes: Box[]; lines: Line[] }) {
    const { t } = useTranslation("map");
    const { span } = useFormat();
    const name = useBoxName();
    const nameOf = (id: string) => {
        const box = boxes.find((b) => b.id === id);
        return box ? name(box) : "";
    };
    return (
        <details className="lw-above">
            <summary>{t("asList")}</summary>
            <ul className="lw-above">
                {lines.map((line) => {
                    const box = boxes.find((b) => b.id === line.from);
                    return (
                        <li key={line.id}>
                            <Link to="/machines" search={box ? searchOf(box) : {}} className="lw-link">{t("line", { from: nameOf(line.from), to: nameOf(line.to) })}</Link>{" "}
                            {t("lag", { lag: line.lag === null ? "–" : span(line.lag) })} <HealthLabel health={line.health} />
                        </li>
                    );
                })}
            </ul>
        </details>
    );
}

export function MapPage() {
    const { t } = useTranslation("map");
    const { t: common } = useTranslation();
    const machines = useQuery(machinesQuery);
    const nodes = useQuery(nodesQuery);
    const vaults = useQuery(vaultsQuery);
    const plan = useMemo(() => layOut(machines.data ?? [], nodes.data ?? [], vaults.data ?? []), [machines.data, nodes.data, vaults.data]);
    const isReady = machines.data && nodes.data && vaults.data;
    return (
        <>
            <PageHeader title={t("title")} text={t("text")} />
            <PageSection hasBodyWrapper={false} isFilled>
                <ProblemAlert error={machines.error ?? nodes.error ?? vaults.error} />
                {isReady ? <><Flow {...plan} /><FlowList {...plan} /></> : <Skeleton height="24rem" screenreaderText={common("loading")} />}
            </PageSection>
        </>
    );
}
