// SPDX-License-Identifier: Apache-2.0
//
// The one client of the API. Its types come from hub/api/openapi.json; a cookie that scripts cannot read says who we are, and
// everything that changes something carries the session's CSRF token. `call` makes an answer its value, or throws ProblemError.
import createClient, { type Middleware } from "openapi-fetch";

import { asProblem, problemOf } from "./problem";
import type { paths } from "./schema";

let csrfToken = "";
let onSignedOut: () => void = () => undefined;

export function setCsrfToken(token: string) {
    csrfToken = token;
}

/** Called whenever the hub says that nobody is signed in. */
export function setSignedOutHandler(handler: () => void) {
    onSignedOut = handler;
}

const middleware: Middleware = {
    onRequest({ request }) {
        if (request.method !== "GET") {
            if (csrfToken) request.headers.set("X-CSRF-Token", csrfToken);
            // A press of a button is one key, so that what the network repeats happens once.
            if (request.method === "POST" && !request.headers.has("Idempotency-Key"))
                request.headers.set("Idempotency-Key", crypto.randomUUID());
        }
        return request;
    },
    onResponse({ response, schemaPath }) {
        if (response.status === 401 && !schemaPath.startsWith("/api/v1/session")) onSignedOut();
        return response;
    },
};

export const api = createClient<paths>({
    baseUrl: location.origin,
    credentials: "same-origin",
    fetch: (request) => fetch(request),
});
api.use(middleware);

/** The header that a change of an item needs. */
export const ifMatch = (item: { etag: string }) => ({ "If-Match": `"${item.etag}"` });

interface Answer<T> {
    data?: T;
    error?: unknown;
    response: Response;
}

export async function call<T>(promise: Promise<Answer<T>>): Promise<T> {
    let answer: Answer<T>;
    try {
        answer = await promise;
    } catch (error) {
        throw asProblem(error);
    }
    if (!answer.response.ok) throw problemOf(answer.response.status, answer.error);
    return answer.data as T;
}

type Page<T> = (cursor: string | undefined) => Promise<Answer<{ items: T[]; next?: string }>>;

/** Pages of a list from a cursor on, until there are `most` items; `next` leads on. */
export async function callSome<T>(page: Page<T>, from: string | undefined, most: number): Promise<{ items: T[]; next: string | undefined }> {
    const items: T[] = [];
    let cursor = from;
    do {
        const { items: more, next } = await call(page(cursor));
        items.push(...more);
        cursor = next;
    } while (cursor && items.length < most);
    return { items, next: cursor };
}

/** All pages of a list, up to `most` items. */
export async function callAll<T>(page: Page<T>, most = 5000): Promise<T[]> {
    return (await callSome(page, undefined, most)).items;
}
