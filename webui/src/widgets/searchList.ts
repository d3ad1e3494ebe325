// SPDX-License-Identifier: Apache-2.0
//
// Lists in an address: "warning,critical".

/** The words of a search parameter that are among `allowed` (or any, without). */
export function listOf<T extends string>(value: unknown, allowed?: readonly T[]): T[] | undefined {
    if (typeof value !== "string" && typeof value !== "number") return undefined;
    const words = String(value).split(",").filter((word): word is T => word !== "" && (!allowed || allowed.includes(word as T)));
    return words.length > 0 ? words : undefined;
}

export const textOf = (value: unknown): string | undefined =>
    typeof value === "string" && value !== "" ? value : typeof value === "number" ? String(value) : undefined;
