// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";
import { readMachineSearch } from "./machineSearch";

export const machinesRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/machines",
    validateSearch: readMachineSearch,
    component: lazyRouteComponent(() => import("./MachinesPage"), "MachinesPage"),
});
