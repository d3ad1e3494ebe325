// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";

export const mapRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/map",
    component: lazyRouteComponent(() => import("./MapPage"), "MapPage"),
});
