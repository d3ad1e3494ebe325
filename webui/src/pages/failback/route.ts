// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";

export const failbackRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/failovers/$failoverId/failback",
    component: lazyRouteComponent(() => import("./FailbackPage"), "FailbackPage"),
});
