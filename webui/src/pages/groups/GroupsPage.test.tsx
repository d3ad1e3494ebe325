// SPDX-License-Identifier: Apache-2.0
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, waitFor } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";

import { type Session, sessionQuery } from "../../api/session";
import type { Column } from "../../widgets/DataTable";
import words from "../../words/sv.json";
import { GroupsPage } from "./GroupsPage";

const texts = words.finding.no_group_point.silent;
const i18n = { language: "sv", getResource: (_language: string, _namespace: string, key: string) => ({ "finding.no_group_point.silent.cause": texts.cause, "finding.no_group_point.silent.remedy": texts.remedy })[key] };
vi.mock("react-i18next", () => ({ useTranslation: () => ({ t: (key: string) => key, i18n }) }));
vi.mock("@tanstack/react-router", () => ({ useNavigate: () => () => undefined }));
// The real one draws what is in view only, and here nothing is.
vi.mock("../../widgets/ListPage", () => ({
    ListPage: ({ query, columns }: { query: { data?: { id: string }[] }; columns: Column<{ id: string }>[] }) => query.data?.flatMap((row) => columns.map((column) => <div key={row.id + column.key}>{column.cell(row)}</div>)) ?? null,
}));

const group = (name: string, rest: object) => ({
    id: name, name, description: "", interval_seconds: 60, members: [], member_count: 2, health: "warning", missed: 3, last_point_at: null, cause_code: "", cause: "", remedy: "", cause_values: {}, ...rest,
});

describe("a group that is not healthy", () => {
    afterEach(() => {
        cleanup();
        vi.unstubAllGlobals();
    });

    it("says in the console's language what is wrong and what to do, and what an agent said as it was said", async () => {
        const items = [
            group("shop", { cause_code: "no_group_point", cause: "No group point for 300 s", remedy: "Start it", cause_values: { form: "silent", age_seconds: 300, interval_seconds: 60, member: "db1", cause: "", remedy: "" } }),
            group("bank", { cause: "connection refused", remedy: "open the port" }),
        ];
        vi.stubGlobal("fetch", () => Promise.resolve(new Response(JSON.stringify({ items }), { status: 200, headers: { "Content-Type": "application/json" } })));
        const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
        client.setQueryData(sessionQuery.queryKey, { user: { role: "viewer" } } as Session);
        render(<QueryClientProvider client={client}><GroupsPage /></QueryClientProvider>);
        await waitFor(() => expect(document.body.textContent).toContain("db1 är inte ansluten"));
        expect(document.body.textContent).toContain("Starta dess agent");
        expect(document.body.textContent).not.toContain("No group point");
        expect(document.body.textContent).toContain("connection refused");
        expect(document.body.textContent).not.toContain("open the port");
    });
});
