// SPDX-License-Identifier: Apache-2.0
//
// Where data flows: machines to process nodes to vaults, and copies from vault to vault, with the live lag on each line. A box or a line leads to its
// machines. The same is there as a list of links, for those who do not see or point.
import "@xyflow/react/dist/style.css";

import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { BaseEdge, type Edge, type EdgeProps, getSmoothStepPath, Handle, MarkerType, type Node as FlowNode, type NodeProps, Position, ReactFlow } from "@xyflow/react";
import { type CSSProperties, useMemo } from "react";
import { useTranslation } from "react-i18next";

import { machinesQuery, nodesQuery, vaultsQuery } from "../../api/queries";
import { useIsDark } from "../../app/theme";
import { useFormat } from "../../i18n/format";
import { HealthLabel } from "../../widgets/labels";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import type { MachineSearch } from "../machines/machineSearch";
import { besideVaults, type Box, laneOffset, layOut, type Line, MAP_WIDTH, rowsOf } from "./mapLayout";

type BoxNode = FlowNode<{ box: Box }, "box">;

/** The list that a box stands for. */
function searchOf(box: Box): MachineSearch {
    const id = box.id.slice(2);
    if (box.layer === 1) return { node: id };
    if (box.layer === 2) return { vault: id };
    const first = box.machines[0];
    return { site: first?.site_id ?? "none", node: first?.node_id ?? "none", vault: first?.vault_id ?? "none" };
}

/** The list that a line stands for. */
function searchOfLine(line: Line, boxes: Box[]): MachineSearch {
    if (line.lane !== undefined) return { vault: line.from.slice(2), copy: line.to.slice(2) };
    const from = boxes.find((box) => box.id === line.from);
    return from ? searchOf(from) : {};
}

/** "12 s", and for copies of how many machines: they are many lines' end and no box's. */
function useLineText() {
    const { t } = useTranslation("map");
    const { span, number } = useFormat();
    return (line: Line) => {
        const lag = line.lag === null ? "–" : span(line.lag);
        return line.lane === undefined ? lag : t("copies", { count: line.machines, number: number(line.machines), lag });
    };
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
            {box.layer === 2 && <Handle type="source" id="copy-out" className="lw-map-copy" style={{ top: "30%" }} position={Position.Right} isConnectable={false} />}
            {box.layer === 2 && <Handle type="target" id="copy-in" className="lw-map-copy" style={{ top: "70%" }} position={Position.Right} isConnectable={false} />}
        </div>
    );
}

const nodeTypes = { box: BoxView };

/** What is to be seen is measured by its boxes; lines of copies run beside them. */
function paddingOf(lines: Line[]) {
    const beside = besideVaults(lines);
    return beside === 0 ? 0.1 : ({ y: 0.1, left: "3%", right: `${Math.ceil((100 * beside) / (MAP_WIDTH + beside))}%` } as const);
}

/** As console.css has them for lines; the head of an arrow is no part of its line. */
const colors = {
    healthy: "var(--pf-t--global--color--status--success--default)",
    warning: "var(--pf-t--global--color--status--warning--default)",
    critical: "var(--pf-t--global--color--status--danger--default)",
    unknown: "var(--pf-t--global--icon--color--disabled)",
} as const;

type CopyEdge = Edge<{ offset: number }, "copy">;

/** Out of one vault, along its lane, and into the other one from the same side. What it says stands in its lane, where no other line's text is. */
function CopyLine({ sourceX, sourceY, targetX, targetY, data, label, markerEnd, style }: EdgeProps<CopyEdge>) {
    const offset = data?.offset ?? 0;
    const [path] = getSmoothStepPath({ sourceX, sourceY, sourcePosition: Position.Right, targetX, targetY, targetPosition: Position.Right, offset, borderRadius: 12 });
    return <BaseEdge path={path} label={label} labelX={Math.max(sourceX, targetX) + offset} labelY={(sourceY + targetY) / 2} markerEnd={markerEnd} style={style} />;
}

const edgeTypes = { copy: CopyLine };

const copyEdge = (edge: Edge, lane: number, health: Line["health"]): CopyEdge => ({
    ...edge, type: "copy", data: { offset: laneOffset(lane) }, sourceHandle: "copy-out", targetHandle: "copy-in", markerEnd: { type: MarkerType.ArrowClosed, width: 18, height: 18, color: colors[health] },
});

function Flow({ boxes, lines }: { boxes: Box[]; lines: Line[] }) {
    const { t } = useTranslation("map");
    const textOf = useLineText();
    const isDark = useIsDark();
    const navigate = useNavigate();
    const go = (search: MachineSearch) => void navigate({ to: "/machines", search });
    const nodes = boxes.map((box): BoxNode => ({ id: box.id, type: "box", position: { x: box.x, y: box.y }, data: { box }, draggable: false, connectable: false }));
    const edges = lines.map((line): Edge => {
        const edge: Edge = { id: line.id, source: line.from, target: line.to, label: textOf(line), animated: line.health === "healthy", className: `lw-map-line lw-map-${line.health}`, focusable: false };
        return line.lane === undefined ? edge : copyEdge(edge, line.lane, line.health);
    });
    return (
        <div className="lw-map" style={{ "--lw-map-rows": rowsOf(boxes, lines) } as CSSProperties} aria-hidden="true">
            <ReactFlow
                nodes={nodes}
                edges={edges}
                nodeTypes={nodeTypes}
                edgeTypes={edgeTypes}
                colorMode={isDark ? "dark" : "light"}
                fitView
                fitViewOptions={{ maxZoom: 1.1, padding: paddingOf(lines) }}
                minZoom={0.1}
                zoomOnScroll={false}
                preventScrolling={false}
                nodesFocusable={false}
                edgesFocusable={false}
                elementsSelectable={false}
                proOptions={{ hideAttribution: true }}
                onNodeClick={(_event, node) => go(searchOf(node.data.box))}
                onEdgeClick={(_event, edge) => {
                    const line = lines.find((one) => one.id === edge.id);
                    if (line) go(searchOfLine(line, boxes));
                }}
                aria-label={t("title")}
            />
        </div>
    );
}

function FlowList({ boxes, lines }: { boxes: Box[]; lines: Line[] }) {
    const { t } = useTranslation("map");
    const textOf = useLineText();
    const name = useBoxName();
    const nameOf = (id: string) => {
        const box = boxes.find((b) => b.id === id);
        return box ? name(box) : "";
    };
    return (
        <details className="lw-above">
            <summary>{t("asList")}</summary>
            <ul className="lw-above" id="map-list">
                {lines.map((line) => (
                    <li key={line.id}>
                        <Link to="/machines" search={searchOfLine(line, boxes)} className="lw-link">{t(line.lane === undefined ? "line" : "copyLine", { from: nameOf(line.from), to: nameOf(line.to) })}</Link>{" "}
                        {line.lane === undefined ? t("lag", { lag: textOf(line) }) : textOf(line)} <HealthLabel health={line.health} />
                    </li>
                ))}
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
