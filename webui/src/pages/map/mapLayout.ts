// SPDX-License-Identifier: Apache-2.0
//
// The map as layers from left to right: machines (those of one site, node and vault are one box), process nodes, vaults. Each box goes to
// the height of the middle of what leads to it, so that few lines cross. Copies go from vault to vault, to the right of them, each line that
// would run beside another one in a lane of its own. Pure geometry.
import type { Machine, Node, Vault } from "../../api/queries";
import type { Health } from "../../widgets/labels";

export interface Box {
    id: string;
    layer: 0 | 1 | 2;
    name: string;
    site: string | null;
    health: Health;
    machines: Machine[];
    x: number;
    y: number;
}

export interface Line {
    id: string;
    from: string;
    to: string;
    /** The oldest last point of all machines on this line, in seconds; null: none has one. */
    lag: number | null;
    machines: number;
    health: Health;
    /** A line of copies: which lane to the right of the vaults it runs in, from 0. */
    lane?: number;
}

const LAYER_X = 340;
const ROW_Y = 110;
/** Of all layers; a box is about 180 wide. */
export const MAP_WIDTH = 2 * LAYER_X + 180;
const LANE_X = 120; // as wide as what a line of copies says
const ORDER: Health[] = ["critical", "warning", "unknown", "healthy"];

const worst = (all: Health[]): Health => ORDER.find((health) => all.includes(health)) ?? "unknown";

export function groupMachines(machines: Machine[]): Map<string, Machine[]> {
    const groups = new Map<string, Machine[]>();
    for (const machine of machines) {
        const key = `m:${machine.site_id ?? ""}:${machine.node_id ?? ""}:${machine.vault_id ?? ""}`;
        groups.set(key, [...(groups.get(key) ?? []), machine]);
    }
    return groups;
}

function lineOf(from: string, to: string, machines: Machine[]): Line {
    const lags = machines.map((m) => m.rpo_seconds).filter((lag) => lag !== null);
    return { id: `${from}>${to}`, from, to, machines: machines.length, lag: lags.length > 0 ? Math.max(...lags) : null, health: worst(machines.map((m) => m.health)) };
}

function linesOf(groups: Map<string, Machine[]>): Line[] {
    const lines: Line[] = [];
    const onward = new Map<string, { node: string; vault: string; machines: Machine[] }>();
    for (const [key, machines] of groups) {
        const { node_id: node, vault_id: vault } = machines[0] ?? {};
        if (!node) continue;
        lines.push(lineOf(key, `n:${node}`, machines));
        if (!vault) continue;
        const entry = onward.get(`${node}${vault}`) ?? { node, vault, machines: [] };
        entry.machines.push(...machines);
        onward.set(`${node}${vault}`, entry);
    }
    for (const { node, vault, machines } of onward.values()) lines.push(lineOf(`n:${node}`, `v:${vault}`, machines));
    return lines;
}

const copyHealth = { failing: "critical", initial: "unknown", following: "healthy", ending: "unknown" } as const;

/** One line for all machines that one vault keeps copies of another one's points of. */
function copyLinesOf(machines: Machine[]): Line[] {
    const lines = new Map<string, Line>();
    for (const machine of machines)
        for (const { vault_id: copy, state, behind_seconds: behind } of machine.copies) {
            if (state === "ending" || !machine.vault_id) continue;
            const [from, to] = [`v:${machine.vault_id}`, `v:${copy}`];
            const line = lines.get(`${from}>${to}`) ?? { id: `${from}>${to}`, from, to, lag: null, machines: 0, health: "healthy" as Health };
            const lag = behind === null ? line.lag : Math.max(behind, line.lag ?? 0);
            lines.set(line.id, { ...line, lag, machines: line.machines + 1, health: worst([line.health, copyHealth[state]]) });
        }
    return [...lines.values()];
}

/** Short lines first, each in the first lane where no other one is beside it. */
function intoLanes(lines: Line[], vaults: Map<string, Box>): Line[] {
    const lanes: [number, number][][] = [];
    const spanOf = ({ from, to }: Line): [number, number] => {
        const ys = [vaults.get(from)?.y ?? 0, vaults.get(to)?.y ?? 0];
        return [Math.min(...ys), Math.max(...ys)];
    };
    const length = (line: Line) => spanOf(line)[1] - spanOf(line)[0];
    return [...lines].sort((a, b) => length(a) - length(b) || a.id.localeCompare(b.id)).map((line) => {
        const [top, bottom] = spanOf(line);
        const free = lanes.findIndex((taken) => taken.every(([from, to]) => bottom <= from || top >= to));
        const lane = free >= 0 ? free : lanes.push([]) - 1;
        lanes[lane]?.push([top, bottom]);
        return { ...line, lane };
    });
}

/** Puts the boxes of one layer one below the other, in the order of the middles of their neighbours before. */
function place(boxes: Box[], lines: Line[], before: Map<string, Box>) {
    const middle = (box: Box) => {
        const ys = lines.filter((line) => line.to === box.id).map((line) => before.get(line.from)?.y ?? 0);
        return ys.length > 0 ? ys.reduce((a, b) => a + b, 0) / ys.length : Number.MAX_SAFE_INTEGER;
    };
    const wanted = boxes.map((box) => ({ box, y: middle(box) })).sort((a, b) => a.y - b.y || a.box.name.localeCompare(b.box.name));
    let next = 0;
    for (const { box, y } of wanted) {
        box.y = y === Number.MAX_SAFE_INTEGER ? next : Math.max(next, y);
        next = box.y + ROW_Y;
    }
}

export function layOut(machines: Machine[], nodes: Node[], vaults: Vault[]): { boxes: Box[]; lines: Line[] } {
    const groups = groupMachines(machines);
    const lines = linesOf(groups);
    const sources = [...groups].map(([id, members]): Box => ({
        id, layer: 0, name: members.length === 1 ? (members[0]?.name ?? "") : "", site: members[0]?.site_name ?? null, health: worst(members.map((m) => m.health)), machines: members, x: 0, y: 0,
    }));
    const peer = (layer: 1 | 2, prefix: string) => (p: Node | Vault): Box => ({ id: `${prefix}:${p.id}`, layer, name: p.name, site: p.site_name, health: p.health, machines: [], x: layer * LAYER_X, y: 0 });
    const middles = nodes.map(peer(1, "n"));
    const ends = vaults.map(peer(2, "v"));
    sources.sort((a, b) => (a.site ?? "").localeCompare(b.site ?? "") || (a.machines[0]?.node_name ?? "").localeCompare(b.machines[0]?.node_name ?? ""));
    sources.forEach((box, i) => { box.y = i * ROW_Y; });
    place(middles, lines, new Map(sources.map((box) => [box.id, box])));
    place(ends, lines, new Map(middles.map((box) => [box.id, box])));
    const boxes = [...sources, ...middles, ...ends];
    const known = new Set(boxes.map((box) => box.id));
    const isDrawn = (line: Line) => known.has(line.from) && known.has(line.to);
    const copies = intoLanes(copyLinesOf(machines).filter(isDrawn), new Map(ends.map((box) => [box.id, box])));
    return { boxes, lines: [...lines.filter(isDrawn), ...copies] };
}

/** From the vaults to the line of a lane. */
export const laneOffset = (lane: number) => 50 + lane * LANE_X;

/** How wide all that is to the right of the vaults is. */
export function besideVaults(lines: Line[]): number {
    const lanes = Math.max(-1, ...lines.map((line) => line.lane ?? -1)) + 1;
    return lanes === 0 ? 0 : laneOffset(lanes - 1) + LANE_X;
}

/** How many rows high the map is, in rows as they are where nothing is beside the vaults: what is wider is drawn smaller. */
export function rowsOf(boxes: Box[], lines: Line[]): number {
    return (Math.max(1, ...boxes.map((box) => box.y / ROW_Y + 1)) * MAP_WIDTH) / (MAP_WIDTH + besideVaults(lines));
}
