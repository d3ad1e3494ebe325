// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";
import { readListSearch } from "../../widgets/listSearch";

export const plansRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/plans",
    validateSearch: readListSearch,
    component: lazyRouteComponent(() => import("./PlansPage"), "PlansPage"),
});

export const planRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/plans/$planId",
    component: lazyRouteComponent(() => import("./PlanPage"), "PlanPage"),
});

export const planRunRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/plan-runs/$runId",
    component: lazyRouteComponent(() => import("./RunPage"), "RunPage"),
});
