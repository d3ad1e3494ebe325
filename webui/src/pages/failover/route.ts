// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";

export interface FailoverSearch {
    machine?: string;
}

export const failoverWizardRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/failovers/new",
    validateSearch: (search: Record<string, unknown>): FailoverSearch => (typeof search.machine === "string" ? { machine: search.machine } : {}),
    component: lazyRouteComponent(() => import("./FailoverWizardPage"), "FailoverWizardPage"),
});

export const failoverRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/failovers/$failoverId",
    component: lazyRouteComponent(() => import("./FailoverPage"), "FailoverPage"),
});
