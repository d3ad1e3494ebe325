// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";

export interface ProtectSearch {
    /** A machine that is known already. */
    machine?: string;
}

export const protectRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/protect",
    validateSearch: (search: Record<string, unknown>): ProtectSearch => (typeof search.machine === "string" ? { machine: search.machine } : {}),
    component: lazyRouteComponent(() => import("./ProtectPage"), "ProtectPage"),
});
