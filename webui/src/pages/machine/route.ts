// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";
import { textOf } from "../../widgets/searchList";

export const TABS = ["status", "points", "copies", "disks", "mapping", "events"] as const;
export type Tab = (typeof TABS)[number];
/** Of the graphs, in hours. */
export const SPANS_H = [1, 6, 24, 168, 720] as const;

export interface OneMachineSearch {
    tab?: Tab;
    /** The vault whose copy's points are shown. */
    copy?: string;
    hours?: number;
    /** Width of the timeline in seconds, and its chosen moment in milliseconds since 1970. */
    zoom?: number;
    at?: number;
}

export const ZOOMS_S = [60, 600, 3600, 86_400, 604_800, 2_592_000] as const;

export const machineRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/machines/$machineId",
    validateSearch: (search: Record<string, unknown>): OneMachineSearch => {
        const found = {
            tab: TABS.find((tab) => tab === search.tab),
            copy: textOf(search.copy),
            hours: SPANS_H.find((hours) => hours === search.hours),
            zoom: ZOOMS_S.find((zoom) => zoom === search.zoom),
            at: typeof search.at === "number" && search.at > 0 && search.at < 8.64e15 ? search.at : undefined,
        };
        return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
    },
    component: lazyRouteComponent(() => import("./MachinePage"), "MachinePage"),
});
