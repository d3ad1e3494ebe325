// SPDX-License-Identifier: Apache-2.0
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, fireEvent, render, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { FixupPreview } from "./FixupPreview";

vi.mock("react-i18next", () => ({ useTranslation: () => ({ t: (key: string) => key }) }));

const json = (status: number, body: unknown) => Promise.resolve(new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } }));
const report = { changes: [], warnings: [], applied: false };
const fixups = { drivers: true, storage: true, agent: true, serial_console: false };

describe("the list of changes before any is made", () => {
    let ends: Record<string, unknown>[] = [];
    let asked = 0;
    beforeEach(() => {
        asked = 0;
        vi.stubGlobal("fetch", (request: Request) => {
            if (request.method === "POST") return json(202, { id: `job-${++asked}`, status: "queued" });
            return json(200, { id: request.url.split("/").pop(), steps: [], ...ends[asked - 1] });
        });
    });
    afterEach(() => {
        cleanup();
        vi.unstubAllGlobals();
    });

    const button = () => document.querySelector<HTMLButtonElement>("#preview-fixups");
    const status = () => document.querySelector("#fixup-preview")?.getAttribute("data-status");

    it("is asked for again when its job failed or was cancelled, and not once it is made", async () => {
        ends = [{ status: "failed", problem: { detail: "no rescue image" } }, { status: "cancelled" }, { status: "succeeded", result: { fixups: report } }];
        const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
        render(<QueryClientProvider client={client}><FixupPreview request={{ machine: "m", target: "kvm", options: { fixups } }} /></QueryClientProvider>);
        for (const { status: end } of ends) {
            const ask = button();
            expect(ask).not.toBeNull();
            if (ask) fireEvent.click(ask);
            await waitFor(() => expect(status()).toBe(end), { timeout: 30_000 });
        }
        expect([asked, button()]).toEqual([3, null]);
    });
});
