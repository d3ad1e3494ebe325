// SPDX-License-Identifier: Apache-2.0
//
// Who is signed in. null: nobody; the console shows the login page then.
import { queryOptions, type QueryClient, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { api, call, setCsrfToken } from "./client";
import { asProblem } from "./problem";
import type { components } from "./schema";

export type Session = components["schemas"]["OwnSession"];

export type Role = Session["user"]["role"];

async function currentSession(): Promise<Session | null> {
    try {
        const session = await call(api.GET("/api/v1/session"));
        setCsrfToken(session.csrf_token);
        return session;
    } catch (error) {
        if (asProblem(error).status === 401) return null;
        throw error;
    }
}

export const sessionQuery = queryOptions({ queryKey: ["session"], queryFn: currentSession, staleTime: 60_000, retry: false });

export function useSession(): Session | null {
    return useQuery(sessionQuery).data ?? null;
}

/** Whether the role of who is signed in reaches `least`; what is out of reach is not offered (and refused by the hub anyway). */
export function useMay(least: Role): boolean {
    const ranks: Role[] = ["viewer", "operator", "admin"];
    const session = useSession();
    return session !== null && ranks.indexOf(session.user.role) >= ranks.indexOf(least);
}

export function useSignIn() {
    const client = useQueryClient();
    return useMutation({
        mutationFn: (body: { username: string; password: string }) => call(api.POST("/api/v1/session", { body })),
        onSuccess: (session) => {
            setCsrfToken(session.csrf_token);
            client.setQueryData(sessionQuery.queryKey, session);
        },
    });
}

/** Ends all other sessions of the same person too. */
export function useChangePassword() {
    const client = useQueryClient();
    return useMutation({
        mutationFn: (body: { current_password: string; new_password: string }) => call(api.POST("/api/v1/session/password", { body })),
        onSuccess: () => client.invalidateQueries({ queryKey: sessionQuery.queryKey }),
    });
}

/** Forgets all that was shown: the next person may be allowed less. */
export function forgetSession(client: QueryClient) {
    setCsrfToken("");
    client.clear();
    client.setQueryData(sessionQuery.queryKey, null);
}

export function useSignOut() {
    const client = useQueryClient();
    return useMutation({
        mutationFn: () => call(api.DELETE("/api/v1/session")),
        onSettled: () => forgetSession(client),
    });
}
