// SPDX-License-Identifier: Apache-2.0
import { createRoute, redirect } from "@tanstack/react-router";

import { sessionQuery } from "../../api/session";
import { rootRoute } from "../../app/rootRoute";
import { LoginPage } from "./LoginPage";

export const loginRoute = createRoute({
    getParentRoute: () => rootRoute,
    path: "/login",
    // Only paths of the console: an address elsewhere is not where anybody is sent.
    validateSearch: (search: Record<string, unknown>): { next?: string } =>
        typeof search.next === "string" && /^\/(?!\/)[^\\]*$/.test(search.next) ? { next: search.next } : {},
    beforeLoad: async ({ context, search }) => {
        if (await context.client.query({ ...sessionQuery, staleTime: "static" })) throw redirect({ href: search.next ?? "/" });
    },
    component: LoginPage,
});
