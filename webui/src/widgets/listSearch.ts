// SPDX-License-Identifier: Apache-2.0
//
// What the address of every list may hold.
import { textOf } from "./searchList";

export interface ListSearch {
    q?: string;
    sort?: string;
    /** The chosen one of several lists on a page, or the state that is shown. */
    show?: string;
}

export function readListSearch(search: Record<string, unknown>): ListSearch {
    const found: ListSearch = { q: textOf(search.q), sort: textOf(search.sort), show: textOf(search.show) };
    return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}
