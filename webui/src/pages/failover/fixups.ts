// SPDX-License-Identifier: Apache-2.0
//
// What is to be prepared on a replica's disks, as it is entered; and the hub's list of what that changes, or has changed.
import type { components } from "../../api/schema";

/** mapping: whatever the mappings say; keep: as the source had it, whatever they say. */
export const METHODS = ["mapping", "keep", "dhcp", "static", "translate"] as const;
export type Method = (typeof METHODS)[number];

export interface FixupEntry {
    isWanted: boolean;
    serial: boolean;
    /** "": as the hub does it without a word. */
    onFailure: "" | "stop" | "continue";
    method: Method;
    address: string;
    gateway: string;
    from: string;
    to: string;
}

export const NO_FIXUPS: FixupEntry = { isWanted: false, serial: false, onFailure: "", method: "mapping", address: "", gateway: "", from: "", to: "" };

export type Fixups = components["schemas"]["Fixups"];

function networkOf(entry: FixupEntry): Fixups["network"] {
    switch (entry.method) {
        case "mapping":
            return undefined;
        case "keep":
        case "dhcp":
            return { method: entry.method };
        case "static":
            return { method: "static", address: entry.address, ...(entry.gateway && { gateway: entry.gateway }) };
        case "translate":
            return { method: "translate", map: [{ from: entry.from, to: entry.to }] };
    }
}

export function fixupsOf(entry: FixupEntry): Fixups | undefined {
    if (!entry.isWanted) return undefined;
    const network = networkOf(entry);
    return { drivers: true, storage: true, agent: true, serial_console: entry.serial, ...(entry.onFailure && { on_failure: entry.onFailure }), ...(network && { network }) };
}

/** What is missing cannot be sent; whether it is right is the hub's to say. */
export const isEntered = (entry: FixupEntry) => !entry.isWanted || ((entry.method !== "static" || entry.address !== "") && (entry.method !== "translate" || (entry.from !== "" && entry.to !== "")));

export interface Change {
    fixup: string;
    action: string;
    path: string;
    why: string;
    lines: string[];
    failure?: string;
}

export interface FixupReport {
    changes: Change[];
    warnings: string[];
    applied: boolean;
    failed: string;
    unbootable: string;
    takenBack: FixupReport | undefined;
}

const texts = (value: unknown) => (Array.isArray(value) ? value.filter((one): one is string => typeof one === "string") : []);
const text = (value: unknown) => (typeof value === "string" ? value : "");

function changeOf(value: Record<string, unknown>): Change {
    return { fixup: text(value.fixup), action: text(value.action), path: text(value.path), why: text(value.why), lines: texts(value.lines), failure: text(value.failure) || undefined };
}

/** undefined: none were asked for. */
export function reportOf(value: unknown): FixupReport | undefined {
    if (typeof value !== "object" || value === null || !("changes" in value)) return undefined;
    const it = value as Record<string, unknown>;
    return {
        changes: (Array.isArray(it.changes) ? it.changes : []).filter((one): one is Record<string, unknown> => typeof one === "object" && one !== null).map(changeOf),
        warnings: texts(it.warnings),
        applied: it.applied === true,
        failed: text((it.failed as Record<string, unknown> | undefined)?.text),
        unbootable: text(it.unbootable),
        takenBack: reportOf(it.taken_back),
    };
}
