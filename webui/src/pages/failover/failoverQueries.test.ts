// SPDX-License-Identifier: Apache-2.0
import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { screenQuery } from "./failoverQueries";

describe("the screen of a replica", () => {
    beforeEach(() => void vi.useFakeTimers());
    afterEach(() => void vi.useRealTimers());

    it("is asked for less often where there is none, and the last picture stays", async () => {
        const answers = [() => Promise.resolve("one"), () => Promise.reject(new Error("503")), () => Promise.resolve("two")];
        const ask = vi.fn(() => (answers.shift() ?? (() => Promise.reject(new Error("more than was wanted"))))());
        const observer = new QueryObserver(new QueryClient(), { ...screenQuery("a"), queryFn: ask });
        const stop = observer.subscribe(() => undefined);
        const after = async (ms: number) => {
            await vi.advanceTimersByTimeAsync(ms);
            const { data, isError } = observer.getCurrentResult();
            return [ask.mock.calls.length, data, isError];
        };
        expect(await after(0)).toEqual([1, "one", false]);
        expect(await after(3000)).toEqual([2, "one", true]);
        expect(await after(14_900)).toEqual([2, "one", true]);
        expect(await after(100)).toEqual([3, "two", false]);
        stop();
    });
});
