// SPDX-License-Identifier: Apache-2.0
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, fireEvent, render, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { type Machine, policiesQuery, sitesQuery } from "../../api/queries";
import { sessionQuery, type Session } from "../../api/session";
import { BulkActions } from "./BulkActions";

vi.mock("react-i18next", () => ({ useTranslation: () => ({ t: (key: string, values?: { count?: number }) => (values?.count === undefined ? key : `${key}=${values.count}`), i18n: { language: "en" } }) }));

const json = (status: number, body: unknown) => Promise.resolve(new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } }));
const machine = (id: string, changes: Partial<Machine> = {}) => ({ id, name: id, state: "protected", policy_id: "silver", site_id: null, etag: `${id}-1`, ...changes }) as Machine;
const element = (id: string) => document.querySelector<HTMLElement>(`#${id}`) as HTMLElement;
const choose = (id: string, value: string) => fireEvent.change(element(id), { target: { value } });
const lines = () => [...document.querySelectorAll("tr[data-id]")].map((row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent));
const summary = () => element("each-summary").textContent;

interface Asked {
    method: string;
    id: string;
    ifMatch: string | null;
    body: unknown;
}

describe("policy and site of many machines", () => {
    beforeEach(() => {
        // A table shows what fits into it, and nothing has a height here.
        vi.spyOn(Element.prototype, "clientHeight", "get").mockReturnValue(600);
    });
    afterEach(() => {
        cleanup();
        vi.unstubAllGlobals();
        vi.restoreAllMocks();
    });

    /** The dialog for these machines, and a hub that answers so. What it was asked, and which machines stay ticked. */
    function open(machines: Machine[], answer: (asked: Asked) => Promise<Response>) {
        const all: Asked[] = [];
        const ticked: string[][] = [];
        vi.stubGlobal("fetch", async (request: Request) => {
            const asked = { method: request.method, id: new URL(request.url).pathname.split("/").at(-1) ?? "", ifMatch: request.headers.get("If-Match"), body: request.method === "GET" ? null : ((await request.json()) as unknown) };
            all.push(asked);
            return answer(asked);
        });
        const client = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
        client.setQueryData(sessionQuery.queryKey, { user: { role: "operator" } } as Session);
        client.setQueryData(policiesQuery.queryKey, [{ id: "silver", name: "Silver" }, { id: "gold", name: "Gold" }] as never);
        client.setQueryData(sitesQuery.queryKey, [{ id: "pier", name: "Pier" }] as never);
        render(<QueryClientProvider client={client}><BulkActions machines={machines} onTick={(ids) => ticked.push([...ids])} /></QueryClientProvider>);
        fireEvent.click(element("bulk-settings"));
        return { asked: () => all.filter((one) => one.id !== "policies" && one.id !== "sites"), ticked };
    }

    it("are changed one by one, and one that is refused costs no other", async () => {
        const machines = [machine("a"), machine("b", { policy_id: "gold" }), machine("c", { policy_id: null }), machine("d"), machine("e")];
        const { asked, ticked } = open(machines, ({ id }) =>
            id === "c" ? json(409, { code: "refused", detail: "not protected", correction: "Protect it." }) : id === "d" ? json(403, { code: "approval_required", detail: "a second person must approve" }) : json(200, {}),
        );
        expect(element("dialog-act").textContent).toBe("bulk.submit=5");
        expect(element("dialog-act")).toHaveProperty("disabled", true); // nothing is chosen
        choose("bulk-policy", "gold");
        expect(document.body.textContent).toContain("bulk.bare=1");
        fireEvent.click(element("dialog-act"));
        await waitFor(() => expect(summary()).toBe("each.machine.summary.done=2, each.machine.summary.already=1, each.machine.summary.held=1, each.machine.summary.refused=1"));
        expect(asked().map(({ method, id, ifMatch }) => [method, id, ifMatch])).toEqual([["PATCH", "a", '"a-1"'], ["PATCH", "c", '"c-1"'], ["PATCH", "d", '"d-1"'], ["PATCH", "e", '"e-1"']]);
        expect(asked()[0]?.body).toEqual({ policy_id: "gold" });
        await waitFor(() => expect(lines()).toEqual([
            ["c", "each.machine.outcome.refused", "not protectedProtect it."],
            ["d", "each.machine.outcome.held", "a second person must approve"],
            ["b", "each.machine.outcome.already", "–"],
            ["a", "each.machine.outcome.done", "–"],
            ["e", "each.machine.outcome.done", "–"],
        ]));
        await waitFor(() => expect(document.activeElement).toBe(element("dialog-close"))); // the button that was pressed is gone
        fireEvent.click(element("dialog-close"));
        expect(ticked).toEqual([["c", "d"]]);
    });

    it("lose their site, and nothing else", async () => {
        const { asked } = open([machine("a", { site_id: "pier" }), machine("b")], () => json(200, {}));
        choose("bulk-site", "none");
        fireEvent.click(element("dialog-act"));
        await waitFor(() => expect(summary()).toBe("each.machine.summary.done=1, each.machine.summary.already=1"));
        expect(asked().map(({ id, body }) => [id, body])).toEqual([["a", { site_id: null }]]);
    });

    it("are read again where another version is there, and left alone where somebody else chose", async () => {
        const now: Record<string, Machine> = { a: machine("a", { etag: "a-2" }), b: machine("b", { etag: "b-2", policy_id: "bronze" }), c: machine("c", { etag: "c-2", policy_id: "gold" }) };
        const { asked } = open([machine("a"), machine("b"), machine("c")], ({ method, id, ifMatch }) => (method === "GET" ? json(200, now[id]) : ifMatch === `"${id}-2"` ? json(200, {}) : json(412, { code: "conflict", detail: "changed by somebody else" })));
        choose("bulk-policy", "gold");
        fireEvent.click(element("dialog-act"));
        await waitFor(() => expect(summary()).toBe("each.machine.summary.done=1, each.machine.summary.already=1, each.machine.summary.refused=1"));
        expect(asked().filter(({ method }) => method === "PATCH").map(({ ifMatch }) => ifMatch)).toEqual(['"a-1"', '"a-2"', '"b-1"', '"c-1"']);
        await waitFor(() => expect(lines()[0]).toEqual(["b", "each.machine.outcome.refused", "changed by somebody else"]));
    });

    it("are not asked for any more once the hub is away", async () => {
        const { ticked } = open([machine("a"), machine("b"), machine("c")], ({ id }) => (id === "a" ? json(200, {}) : Promise.reject(new Error("gone"))));
        choose("bulk-policy", "gold");
        fireEvent.click(element("dialog-act"));
        await waitFor(() => expect(summary()).toBe("each.machine.summary.done=1, each.machine.summary.skipped=1, each.machine.summary.refused=1"));
        fireEvent.click(element("dialog-close"));
        expect(ticked).toEqual([["b", "c"]]);
    });

    it("can be stopped between two of them, with Escape too", async () => {
        let answer: (response: Promise<Response>) => void = () => undefined;
        const { asked } = open([machine("a"), machine("b"), machine("c")], () => new Promise((resolve) => { answer = resolve; }));
        choose("bulk-policy", "gold");
        fireEvent.click(element("dialog-act"));
        await waitFor(() => expect(document.activeElement).toBe(element("dialog-stop")));
        await waitFor(() => expect(asked()).toHaveLength(1));
        fireEvent.keyDown(document, { key: "Escape" });
        answer(json(200, {}));
        await waitFor(() => expect(summary()).toBe("each.machine.summary.done=1, each.machine.summary.skipped=2"));
        expect(asked()).toHaveLength(1);
    });
});

describe("an action for many machines", () => {
    afterEach(() => {
        cleanup();
        vi.unstubAllGlobals();
        vi.restoreAllMocks();
    });

    it("goes on after one that is refused, and says which", async () => {
        vi.spyOn(Element.prototype, "clientHeight", "get").mockReturnValue(600);
        const asked: string[] = [];
        vi.stubGlobal("fetch", (request: Request) => {
            const id = new URL(request.url).pathname.split("/").at(-2) ?? "";
            asked.push(id);
            return id === "a" ? json(409, { code: "refused", detail: "another job is under way" }) : json(202, {});
        });
        const client = new QueryClient();
        client.setQueryData(sessionQuery.queryKey, { user: { role: "operator" } } as Session);
        const onTick = vi.fn();
        render(<QueryClientProvider client={client}><BulkActions machines={[machine("a"), machine("b"), machine("c")]} onTick={onTick} /></QueryClientProvider>);
        fireEvent.click(element("bulk-resync"));
        fireEvent.click(element("dialog-act"));
        await waitFor(() => expect(summary()).toBe("each.machine.summary.done=2, each.machine.summary.refused=1"));
        expect(asked).toEqual(["a", "b", "c"]);
        await waitFor(() => expect(lines()[0]).toEqual(["a", "each.machine.outcome.refused", "another job is under way"]));
        fireEvent.click(element("dialog-close"));
        expect(onTick).toHaveBeenCalledWith(new Set(["a"]));
    });

    it("is offered for those that it makes sense for, whatever becomes of them meanwhile; the others stay ticked", async () => {
        vi.spyOn(Element.prototype, "clientHeight", "get").mockReturnValue(600);
        const asked: string[] = [];
        const answers: ((response: Promise<Response>) => void)[] = [];
        vi.stubGlobal("fetch", (request: Request) => {
            asked.push(new URL(request.url).pathname.split("/").at(-2) ?? "");
            return new Promise((resolve) => answers.push(resolve));
        });
        const client = new QueryClient();
        client.setQueryData(sessionQuery.queryKey, { user: { role: "operator" } } as Session);
        client.setQueryData(policiesQuery.queryKey, [] as never);
        client.setQueryDefaults(policiesQuery.queryKey, { staleTime: Infinity });
        const onTick = vi.fn();
        const page = (machines: Machine[]) => <QueryClientProvider client={client}><BulkActions machines={machines} onTick={onTick} /></QueryClientProvider>;
        const bare = ["a", "b"].map((id) => machine(id, { state: "unprotected", policy_id: null }));
        const { rerender } = render(page([...bare, machine("c")]));
        expect(element("bulk-protect").textContent).toBe("action.protect.button (2)");
        expect(element("bulk-resync").textContent).toBe("action.resync.button (1)");
        fireEvent.click(element("bulk-protect"));
        fireEvent.click(element("dialog-act"));
        await waitFor(() => expect(asked).toEqual(["a"]));
        rerender(page([machine("a", { state: "enabling" }), machine("b", { state: "enabling" }), machine("c")]));
        answers[0]?.(json(202, {}));
        await waitFor(() => expect(asked).toEqual(["a", "b"]));
        answers[1]?.(json(409, { code: "refused", detail: "no disk" }));
        await waitFor(() => expect(summary()).toBe("each.machine.summary.done=1, each.machine.summary.refused=1"));
        fireEvent.click(element("dialog-close"));
        expect(onTick).toHaveBeenCalledWith(new Set(["b", "c"]));
    });
});
