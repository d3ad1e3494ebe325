// SPDX-License-Identifier: Apache-2.0
//
// News from the hub (Server-Sent Events) make the queries that they touch fetch again. A browser opens few connections to one
// server, so of all tabs one holds the stream (a Web Lock says which) and tells the others over a BroadcastChannel; when it is
// closed another takes over.
import type { QueryClient } from "@tanstack/react-query";

import type { components } from "./schema";

export type HubEvent = components["schemas"]["Event"];

type News = { kind: "event"; event: HubEvent } | { kind: "resync" };

const LOCK = "leeward-events";
const RETRY_MS = 5000;

/** Holds the stream until `signal` ends it; resolves then. */
function listen(signal: AbortSignal, tell: (news: News) => void): Promise<void> {
    return new Promise((resolve) => {
        let source: EventSource | undefined;
        let timer: ReturnType<typeof setTimeout> | undefined;
        let wasOpen = false;
        const connect = () => {
            source = new EventSource("/api/v1/events/stream");
            source.onmessage = (message: MessageEvent<string>) => tell({ kind: "event", event: JSON.parse(message.data) as HubEvent });
            source.addEventListener("resync", () => tell({ kind: "resync" }));
            source.onopen = () => {
                if (wasOpen) tell({ kind: "resync" });
                wasOpen = true;
            };
            source.onerror = () => {
                // The browser tries again by itself unless it was refused for good.
                if (source?.readyState === EventSource.CLOSED) timer = setTimeout(connect, RETRY_MS);
            };
        };
        connect();
        signal.addEventListener("abort", () => {
            clearTimeout(timer);
            source?.close();
            resolve();
        });
    });
}

/** The queries that an event touches, by the first word of their keys. */
export function keysTouchedBy(event: HubEvent): string[] {
    const keys = ["overview", "events"];
    if (event.machine_id) keys.push("machines", "machine", "exports", "branches", "groups", "failovers");
    if (event.job_id) keys.push("jobs", "job", "plan-runs");
    if (event.node_id) keys.push("nodes");
    if (event.vault_id) keys.push("vaults", "exports", "branches");
    const subject = event.code.split(/[._]/)[0] ?? "";
    const more: Record<string, string[]> = { policy: ["policies"], site: ["sites"], token: ["tokens"], user: ["users"], alert: ["alerts"], approval: ["approvals"], group: ["groups"], job: ["jobs", "job"], plan: ["plans", "plan-runs", "drills"], drill: ["drills"] };
    keys.push(...(more[subject] ?? []));
    return keys;
}

/** Starts listening; the returned function stops it. */
export function startLive(client: QueryClient, onEvent: (event: HubEvent) => void): () => void {
    const controller = new AbortController();
    const channel = new BroadcastChannel(LOCK);
    const pending = new Set<string>();
    let timer: ReturnType<typeof setTimeout> | undefined;

    // A burst of events is one round of questions.
    const flush = () => {
        timer = undefined;
        const keys = new Set(pending);
        pending.clear();
        void client.invalidateQueries({ predicate: (query) => keys.has("*") ? query.queryKey[0] !== "session" : keys.has(String(query.queryKey[0])) });
    };
    const take = (news: News) => {
        if (news.kind === "resync") pending.add("*");
        else {
            for (const key of keysTouchedBy(news.event)) pending.add(key);
            onEvent(news.event);
        }
        timer ??= setTimeout(flush, 300);
    };
    channel.onmessage = (message: MessageEvent<News>) => take(message.data);
    void navigator.locks
        .request(LOCK, { signal: controller.signal }, () =>
            listen(controller.signal, (news) => {
                channel.postMessage(news);
                take(news);
            }),
        )
        .catch(() => undefined); // aborted while waiting for its turn
    return () => {
        controller.abort();
        clearTimeout(timer);
        channel.close();
    };
}
