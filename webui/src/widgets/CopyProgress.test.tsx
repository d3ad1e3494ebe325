// SPDX-License-Identifier: Apache-2.0
import { cleanup, render } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";

import en from "../app/en.json";
import sv from "../app/sv.json";
import zh from "../app/zh.json";
import { CopyProgress } from "./CopyProgress";
import { copyShare, isCopying } from "./copyProgress";

const texts = { en, sv, zh };
let language: keyof typeof texts = "en";
const t = (key: string, values: Record<string, string>) =>
    texts[language].copy[key.replace("copy.", "") as keyof typeof en.copy].replace(/\{\{(\w+)\}\}/g, (_place, name: string) => values[name] ?? "");
vi.mock("react-i18next", () => ({ useTranslation: () => ({ t, i18n: { language } }) }));

const MIB = 1024 ** 2;
const machine = { initial_done_bytes: 100 * MIB, initial_total_bytes: 400 * MIB, throughput_bytes_per_second: 1.5 * MIB, remaining_seconds: 200 };
const shown = (rest: object, isOver = false) => {
    cleanup();
    render(<CopyProgress machine={{ ...machine, ...rest }} title="copy" isOver={isOver} />);
    return [document.querySelector("[role=progressbar]")?.getAttribute("aria-valuenow"), document.querySelector(".lw-subtle")?.textContent.replace(/\u00a0/g, " ")];
};

describe("a copy that goes on", () => {
    afterEach(cleanup);

    it.each([
        ["en", "100 MiB of 400 MiB · 1.5 MiB/s · 3 min 20 sec left"],
        ["sv", "100 MiB av 400 MiB · 1,5 MiB/s · 3 min 20 s kvar"],
        ["zh", "400 MiB 中的 100 MiB · 1.5 MiB/s · 剩余 3分钟 20秒"],
    ] as const)("says in %s how much is done, how fast, and how long it will take", (spoken, text) => {
        language = spoken;
        expect(shown({})).toEqual(["25", text]);
    });

    it("does not say what is not known, nor how fast it was when it is over", () => {
        language = "en";
        expect(shown({ throughput_bytes_per_second: 0, remaining_seconds: 0 })[1]).toBe("100 MiB of 400 MiB");
        expect(shown({ initial_done_bytes: 400 * MIB }, true)).toEqual(["100", "400 MiB of 400 MiB"]);
        expect(shown({ initial_total_bytes: 0, initial_done_bytes: 0, throughput_bytes_per_second: 0, remaining_seconds: 0 })).toEqual(["0", ""]);
    });

    it("is one of a machine that is copied or compared, and not of one that is protected", () => {
        const goesOn = (state: "initial_replication" | "resynchronizing" | "protected" | "enabling", initial_total_bytes = 8) => isCopying({ state, initial_done_bytes: 2, initial_total_bytes });
        expect([goesOn("initial_replication"), goesOn("resynchronizing"), goesOn("protected"), goesOn("enabling"), goesOn("resynchronizing", 0)]).toEqual([true, true, false, false, false]);
        expect(copyShare({ initial_done_bytes: 9, initial_total_bytes: 8 })).toBe(1);
    });
});
