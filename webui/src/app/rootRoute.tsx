// SPDX-License-Identifier: Apache-2.0
//
// The two routes above all pages: the root, and the shell, which only somebody who is signed in passes.
import type { QueryClient } from "@tanstack/react-query";
import { createRootRouteWithContext, createRoute, Outlet, redirect } from "@tanstack/react-router";

import { sessionQuery } from "../api/session";
import { RouteProblem } from "../widgets/RouteProblem";
import { NotFound } from "./NotFound";
import { Shell } from "./Shell";

export const rootRoute = createRootRouteWithContext<{ client: QueryClient }>()({ component: Outlet, errorComponent: RouteProblem, notFoundComponent: NotFound });

export const shellRoute = createRoute({
    getParentRoute: () => rootRoute,
    id: "shell",
    component: Shell,
    errorComponent: RouteProblem,
    beforeLoad: async ({ context, location }) => {
        const session = await context.client.query({ ...sessionQuery, staleTime: "static" });
        if (!session) throw redirect({ to: "/login", search: location.href === "/" ? {} : { next: location.href } });
        if (session.user.must_change_password) throw redirect({ to: "/password" });
    },
});
