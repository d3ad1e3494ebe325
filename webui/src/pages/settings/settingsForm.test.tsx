// SPDX-License-Identifier: Apache-2.0
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, fireEvent, render, waitFor } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";

import { sessionQuery, type Session } from "../../api/session";
import { SettingsPage } from "./SettingsPage";

vi.mock("react-i18next", () => ({ useTranslation: () => ({ t: (key: string) => key, i18n: { language: "en" } }) }));

const json = (status: number, body: unknown) => Promise.resolve(new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } }));
const field = (id: string) => document.querySelector<HTMLInputElement>(`#${id}`);
const enter = (id: string, value: string) => fireEvent.change(field(id) as HTMLInputElement, { target: { value } });
const save = () => fireEvent.submit(document.querySelector("form") as HTMLFormElement);

describe("the form of the settings", () => {
    afterEach(() => {
        cleanup();
        vi.unstubAllGlobals();
    });

    /** A hub with these settings; what it was sent. */
    function open(settings: Record<string, unknown>, status = 200) {
        const sent: { etag: string | null; body: unknown }[] = [];
        vi.stubGlobal("fetch", async (request: Request) => {
            if (request.method === "GET") return json(200, settings);
            sent.push({ etag: request.headers.get("If-Match"), body: await request.json() });
            return json(status, status === 200 ? settings : { code: "conflict", detail: "somebody else has changed it" });
        });
        const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
        client.setQueryData(sessionQuery.queryKey, { user: { role: "admin" } } as Session);
        render(<QueryClientProvider client={client}><SettingsPage /></QueryClientProvider>);
        return { client, sent };
    }

    it("takes a setting back to its default, by its button or emptied", async () => {
        const { sent } = open({ etag: "4", event_keep_days: 30, session_idle_seconds: 600, session_max_seconds: 900 });
        await waitFor(() => expect(field("event_keep_days")?.value).toBe("30"));
        expect(document.querySelector("#default-alert_silent_seconds")).toBeNull(); // it is there already
        fireEvent.click(document.querySelector("#default-event_keep_days") as HTMLElement);
        expect(field("event_keep_days")?.value).toBe("");
        enter("session_idle_seconds", "");
        enter("session_max_seconds", "1000");
        save();
        await waitFor(() => expect(sent).toEqual([{ etag: '"4"', body: { event_keep_days: null, session_idle_seconds: null, session_max_seconds: 1000 } }]));
    });

    it("sends the version that it began with, and begins anew when it is told to", async () => {
        const settings = { etag: "4", event_keep_days: 30 };
        const { client, sent } = open(settings, 412);
        await waitFor(() => expect(field("event_keep_days")?.value).toBe("30"));
        enter("event_keep_days", "31");
        settings.etag = "5";
        settings.event_keep_days = 60;
        await client.invalidateQueries({ queryKey: ["settings"] });
        await waitFor(() => expect(client.getQueryData(["settings"])).toMatchObject({ etag: "5" }));
        save();
        await waitFor(() => expect(document.body.textContent).toContain("somebody else has changed it"));
        expect(sent.map((one) => one.etag)).toEqual(['"4"']);
        expect(field("event_keep_days")?.value).toBe("31");
        fireEvent.click(document.querySelector("#discard-settings") as HTMLElement);
        await waitFor(() => expect(field("event_keep_days")?.value).toBe("60"));
        expect(document.body.textContent).not.toContain("somebody else has changed it");
    });

    it("does not take a number that cannot be read for an empty field", async () => {
        const { sent } = open({ etag: "4", event_keep_days: 30 });
        await waitFor(() => expect(field("event_keep_days")?.value).toBe("30"));
        enter("event_keep_days", "");
        Object.defineProperty(field("event_keep_days"), "validity", { value: { badInput: true } });
        save();
        await new Promise((resolve) => setTimeout(resolve, 50));
        expect(sent).toEqual([]);
    });
});
