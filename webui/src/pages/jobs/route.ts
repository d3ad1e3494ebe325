// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";
import { readListSearch } from "../../widgets/listSearch";

export const jobsRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/jobs",
    validateSearch: readListSearch,
    component: lazyRouteComponent(() => import("./JobsPage"), "JobsPage"),
});

export const jobRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/jobs/$jobId",
    component: lazyRouteComponent(() => import("./JobPage"), "JobPage"),
});
