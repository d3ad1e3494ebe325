// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";

export const vaultRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/vaults/$vaultId",
    component: lazyRouteComponent(() => import("./VaultPage"), "VaultPage"),
});
