// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import { AS_SAID, isNamed, networkOf } from "./network";

describe("the network of a replica", () => {
    it("is not sent where others say it", () => {
        expect("network" in networkOf(AS_SAID)).toBe(false);
        expect("network" in networkOf({ way: "said", name: "left over" })).toBe(false);
    });
    it("is the one that is named", () => expect(networkOf({ way: "named", name: " prod " })).toEqual({ network: "prod" }));
    it("is an empty text where there is to be none", () => expect(networkOf({ way: "none", name: "left over" })).toEqual({ network: "" }));
    it("is never none for want of a name", () => {
        expect([isNamed({ way: "named", name: "" }), isNamed({ way: "named", name: " " }), isNamed({ way: "named", name: "prod" })]).toEqual([false, false, true]);
        expect([isNamed(AS_SAID), isNamed({ way: "none", name: "" })]).toEqual([true, true]);
    });
});
