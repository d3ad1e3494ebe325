// SPDX-License-Identifier: Apache-2.0
//
// A folder's texts are a namespace of its name: pages/machines/sv.json is "machines" in Swedish.

export type Resources = Record<string, object>;

export function resourcesOf(files: Record<string, object>): Resources {
    return Object.fromEntries(Object.entries(files).map(([path, texts]) => [path.split("/").at(-2) ?? path, texts]));
}
