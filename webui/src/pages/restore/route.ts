// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";

export interface RestoreSearch {
    machine?: string;
}

export const restoreRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/restore",
    validateSearch: (search: Record<string, unknown>): RestoreSearch => (typeof search.machine === "string" ? { machine: search.machine } : {}),
    component: lazyRouteComponent(() => import("./RestorePage"), "RestorePage"),
});
