// SPDX-License-Identifier: Apache-2.0
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, fireEvent, render, waitFor } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";

import type { Machine, Site } from "../../api/queries";
import { sessionQuery, type Session } from "../../api/session";
import { MachineMapping } from "./MachineMapping";
import { SiteMapping } from "./SiteMapping";

vi.mock("react-i18next", () => ({ useTranslation: () => ({ t: (key: string) => key, i18n: { language: "en" } }) }));

const json = (status: number, body: unknown) => Promise.resolve(new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } }));
const outcome = { problem: "no target" };

function clientOf(): QueryClient {
    const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
    client.setQueryData(sessionQuery.queryKey, { user: { role: "admin" } } as Session);
    return client;
}

const cpus = () => document.querySelector<HTMLInputElement>("#mapping-cpus");
const form = () => document.querySelector("form");

describe("the forms of mappings", () => {
    afterEach(() => {
        cleanup();
        vi.unstubAllGlobals();
    });

    it("change of a site's mapping the version that they began with", async () => {
        let version = 1;
        const sent: (string | null)[] = [];
        vi.stubGlobal("fetch", (request: Request) => {
            if (request.method === "GET") return json(200, { site_id: "s", site_name: "south", cpus: version, memory_bytes: null, nics: [], etag: String(version), updated_at: null });
            sent.push(request.headers.get("If-Match"));
            return json(412, { code: "changed", detail: "somebody else has changed it" });
        });
        const client = clientOf();
        const onClose = vi.fn();
        render(<QueryClientProvider client={client}><SiteMapping site={{ id: "s" } as Site} onClose={onClose} /></QueryClientProvider>);
        await waitFor(() => expect(cpus()?.value).toBe("1"));
        version = 2;
        await client.invalidateQueries({ queryKey: ["site-mapping"] });
        await waitFor(() => expect(client.getQueryData(["site-mapping", "s", "mapping"])).toMatchObject({ etag: "2" }));
        fireEvent.submit(form() as HTMLFormElement);
        await waitFor(() => expect(document.body.textContent).toContain("somebody else has changed it"));
        expect(sent).toEqual(['"1"']);
        expect(onClose).not.toHaveBeenCalled();
    });

    it("are those of the machine that is shown", () => {
        const client = clientOf();
        const own = { a: 1, b: 2 };
        for (const [id, count] of Object.entries(own))
            client.setQueryData(["machine", id, "mapping"], { machine_id: id, site_name: null, machine_nics: [], cpus: count, memory_bytes: null, nics: [], failover: outcome, test: outcome, etag: "1" });
        vi.stubGlobal("fetch", () => new Promise(() => undefined));
        const page = (id: string) => <QueryClientProvider client={client}><MachineMapping machine={{ id } as Machine} /></QueryClientProvider>;
        const { rerender } = render(page("a"));
        expect(cpus()?.value).toBe("1");
        rerender(page("b"));
        expect(cpus()?.value).toBe("2");
    });
});
