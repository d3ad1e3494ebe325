// SPDX-License-Identifier: Apache-2.0
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { useState } from "react";

import { setSignedOutHandler } from "../api/client";
import { asProblem } from "../api/problem";
import { forgetSession } from "../api/session";
import { makeRouter } from "./router";

/** A refusal does not become a yes by asking again; a hub that is away may be back. */
const retry = (count: number, error: unknown) => {
    const { status } = asProblem(error);
    return count < 2 && (status === 0 || status === 503);
};

function start() {
    const client = new QueryClient({
        defaultOptions: { queries: { retry, staleTime: 1000, gcTime: 10 * 60_000, refetchOnWindowFocus: true }, mutations: { retry: false } },
    });
    const router = makeRouter(client);
    setSignedOutHandler(() => {
        forgetSession(client);
        void router.invalidate();
    });
    return { client, router };
}

export function App() {
    const [{ client, router }] = useState(start);
    return (
        <QueryClientProvider client={client}>
            <RouterProvider router={router} />
        </QueryClientProvider>
    );
}
