// SPDX-License-Identifier: Apache-2.0
import { createRoute, lazyRouteComponent } from "@tanstack/react-router";

import { shellRoute } from "../../app/rootRoute";
import { listOf, textOf } from "../../widgets/searchList";

export const ALERT_STATES = ["firing", "acknowledged", "resolved"] as const;
export const ALERT_SEVERITIES = ["critical", "warning"] as const;

export interface AlertSearch {
    state?: string;
    severity?: string;
    code?: string;
    sort?: string;
}

export const alertsRoute = createRoute({
    getParentRoute: () => shellRoute,
    path: "/alerts",
    validateSearch: (search: Record<string, unknown>): AlertSearch => {
        const found = { state: listOf(search.state, ALERT_STATES)?.join(","), severity: listOf(search.severity, ALERT_SEVERITIES)?.join(","), code: textOf(search.code), sort: textOf(search.sort) };
        return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
    },
    component: lazyRouteComponent(() => import("./AlertsPage"), "AlertsPage"),
});
