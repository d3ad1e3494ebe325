// SPDX-License-Identifier: Apache-2.0
import { cleanup, render } from "@testing-library/react";
import { afterEach, expect, it, vi } from "vitest";

import { AlertSubject } from "./AlertSubject";

vi.mock("@tanstack/react-router", () => ({
    Link: ({ to, params, search, children }: { to: string; params?: object; search?: object; children: string }) => <a href={to} data-with={JSON.stringify(params ?? search)}>{children}</a>,
}));

afterEach(cleanup);

it("leads to the machine or to the group, and nowhere else", () => {
    const shown = (machine_id: string | null, group_id: string | null) => {
        cleanup();
        render(<AlertSubject alert={{ subject_name: "shop", machine_id, group_id }} />);
        const link = document.querySelector("a");
        return [document.body.textContent, link?.getAttribute("href"), link?.getAttribute("data-with")];
    };
    expect(shown("m1", null)).toEqual(["shop", "/machines/$machineId", '{"machineId":"m1"}']);
    expect(shown(null, "g1")).toEqual(["shop", "/groups", '{"q":"shop"}']);
    expect(shown(null, null)).toEqual(["shop", undefined, undefined]);
});
