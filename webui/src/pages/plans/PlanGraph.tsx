// SPDX-License-Identifier: Apache-2.0
//
// The steps of a plan as boxes with lines, for the eye; whoever uses it shows the same as a list.
import "@xyflow/react/dist/style.css";

import { type Edge, Handle, type Node as FlowNode, type NodeProps, Position, ReactFlow } from "@xyflow/react";
import { useTranslation } from "react-i18next";

import { useIsDark } from "../../app/theme";
import { layOutSteps, linesOf, type StepBox } from "./planLayout";
import { StepState, type StepStateName } from "./StepState";

type BoxNode = FlowNode<{ box: StepBox; state?: StepStateName }, "step">;

const health: Record<StepStateName, "healthy" | "warning" | "critical" | "unknown"> = {
    pending: "unknown", running: "healthy", waiting_for_input: "warning", succeeded: "healthy", failed: "critical", passed_over: "warning", skipped: "unknown", cancelled: "unknown",
};

function StepView({ data: { box, state } }: NodeProps<BoxNode>) {
    const { t } = useTranslation("plans");
    return (
        <div className={`lw-map-box lw-map-${state ? health[state] : "healthy"}`}>
            <Handle type="target" position={Position.Left} isConnectable={false} />
            <div className="lw-subtle">{box.group} · {t(`type.${box.type}`)}</div>
            <strong>{box.id}</strong>
            {state ? <div><StepState state={state} /></div> : <div className="lw-subtle lw-cause">{box.text}</div>}
            <Handle type="source" position={Position.Right} isConnectable={false} />
        </div>
    );
}

const nodeTypes = { step: StepView };

export function PlanGraph({ steps, states }: { steps: StepBox[]; states?: Record<string, StepStateName> }) {
    const isDark = useIsDark();
    const boxes = layOutSteps(steps);
    const nodes = boxes.map((box): BoxNode => ({ id: box.id, type: "step", position: { x: box.x, y: box.y }, data: { box, state: states?.[box.id] }, draggable: false, connectable: false }));
    const edges = linesOf(boxes).map(({ from, to }): Edge => {
        const state = states?.[from];
        return { id: `${from}>${to}`, source: from, target: to, animated: state === "running", className: `lw-map-line lw-map-${state ? health[state] : "healthy"}`, focusable: false };
    });
    return (
        <div className="lw-plan-graph" aria-hidden="true">
            <ReactFlow key={boxes.map((box) => box.id).join("\n")} nodes={nodes} edges={edges} nodeTypes={nodeTypes} colorMode={isDark ? "dark" : "light"} fitView fitViewOptions={{ maxZoom: 1.1, padding: 0.1 }} minZoom={0.1} nodesFocusable={false} edgesFocusable={false} elementsSelectable={false} proOptions={{ hideAttribution: true }} />
        </div>
    );
}
