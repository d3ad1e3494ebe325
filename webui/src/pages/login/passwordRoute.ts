// SPDX-License-Identifier: Apache-2.0
import { createRoute, redirect } from "@tanstack/react-router";

import { sessionQuery } from "../../api/session";
import { rootRoute } from "../../app/rootRoute";
import { PasswordPage } from "./PasswordPage";

export const passwordRoute = createRoute({
    getParentRoute: () => rootRoute,
    path: "/password",
    beforeLoad: async ({ context }) => {
        if (!(await context.client.query({ ...sessionQuery, staleTime: "static" }))) throw redirect({ to: "/login" });
    },
    component: PasswordPage,
});
