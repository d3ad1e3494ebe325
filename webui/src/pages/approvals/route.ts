// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";
import { readListSearch } from "../../widgets/listSearch";

export const approvalsRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/approvals",
    validateSearch: readListSearch,
    component: lazyRouteComponent(() => import("./ApprovalsPage"), "ApprovalsPage"),
});
