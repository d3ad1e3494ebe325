// SPDX-License-Identifier: Apache-2.0
//
// All routes. A page is a folder under pages/ with a route.ts; it is named here once, and in navigation.ts when it belongs into
// the menu.
import type { QueryClient } from "@tanstack/react-query";
import { createRouter } from "@tanstack/react-router";

import { accessRoute } from "../pages/access/route";
import { approvalsRoute } from "../pages/approvals/route";
import { eventsRoute } from "../pages/events/route";
import { failbackRoute } from "../pages/failback/route";
import { failoverRoute, failoverWizardRoute } from "../pages/failover/route";
import { failoversRoute } from "../pages/failovers/route";
import { groupsRoute } from "../pages/groups/route";
import { infrastructureRoute } from "../pages/infrastructure/route";
import { jobRoute, jobsRoute } from "../pages/jobs/route";
import { loginRoute } from "../pages/login/route";
import { alertsRoute } from "../pages/alerts/route";
import { machineRoute } from "../pages/machine/route";
import { machinesRoute } from "../pages/machines/route";
import { passwordRoute } from "../pages/login/passwordRoute";
import { mapRoute } from "../pages/map/route";
import { overviewRoute } from "../pages/overview/route";
import { protectRoute } from "../pages/protect/route";
import { drillsRoute } from "../pages/drills/route";
import { planRoute, planRunRoute, plansRoute } from "../pages/plans/route";
import { policiesRoute } from "../pages/policies/route";
import { restoreRoute } from "../pages/restore/route";
import { settingsRoute } from "../pages/settings/route";
import { vaultRoute } from "../pages/vault/route";
import { NotFound } from "./NotFound";
import { rootRoute, shellRoute } from "./rootRoute";

const routeTree = rootRoute.addChildren([loginRoute, passwordRoute, shellRoute.addChildren([overviewRoute, machinesRoute, machineRoute, protectRoute, mapRoute, alertsRoute, failoversRoute, failoverWizardRoute, failoverRoute, failbackRoute, restoreRoute, plansRoute, planRoute, planRunRoute, drillsRoute, groupsRoute, jobsRoute, jobRoute, eventsRoute, infrastructureRoute, vaultRoute, policiesRoute, approvalsRoute, accessRoute, settingsRoute])]);

export function makeRouter(client: QueryClient) {
    return createRouter({ routeTree, context: { client }, defaultPreload: "intent", defaultNotFoundComponent: NotFound, scrollRestoration: false });
}

declare module "@tanstack/react-router" {
    interface Register {
        router: ReturnType<typeof makeRouter>;
    }
}
