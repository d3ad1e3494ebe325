// SPDX-License-Identifier: Apache-2.0
//
// Which disk of another machine each disk of a point is written to, and why one cannot be. The hub and that machine's agent check the same again.
import type { Disk } from "../../api/queries";

/** Number of the machine's disk -> key of the other machine's disk; "": not chosen yet. A number that is missing is not written. */
export type Pairs = ReadonlyMap<number, string>;

export type Numbered = Disk & { number: number };
export const numbered = (disks: readonly Disk[]): Numbered[] => disks.filter((disk): disk is Numbered => disk.number !== null).sort((a, b) => a.number - b.number);

export function obstacle(theirs: Disk, ours: Disk): "root" | "mounted" | "small" | undefined {
    if (theirs.is_root) return "root";
    if (theirs.volumes.some((volume) => (volume.mount_points?.length ?? 0) > 0)) return "mounted";
    return theirs.size_bytes < ours.size_bytes ? "small" : undefined;
}

/** What most people want: the disks that are protected, the largest first, each on the smallest disk that it fits on. Only where nothing else is on them. */
export function guess(ours: readonly Numbered[], theirs: readonly Disk[], isRescue: boolean): Pairs {
    const taken = new Set<string>();
    const pairs = new Map<number, string>();
    for (const disk of ours.filter((one) => one.protected).sort((a, b) => b.size_bytes - a.size_bytes || a.number - b.number)) {
        const fit = isRescue ? theirs.filter((one) => one.present && !taken.has(one.key) && !obstacle(one, disk)).sort((a, b) => a.size_bytes - b.size_bytes)[0] : undefined;
        if (fit) taken.add(fit.key);
        pairs.set(disk.number, fit?.key ?? "");
    }
    return pairs;
}

/** Every disk has one of its own. */
export function isComplete(pairs: Pairs): boolean {
    const keys = [...pairs.values()];
    return keys.length > 0 && keys.every(Boolean) && new Set(keys).size === keys.length;
}

export const asList = (pairs: Pairs) => [...pairs].map(([number, key]) => ({ number, key }));
