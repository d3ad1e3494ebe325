// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import { entryOf, isEntered, type Mapping, type MappingEntry, newCard, patchOf } from "./mapping";

const FULL: Mapping = {
    cpus: 4,
    memory_bytes: 1_610_612_736,
    nics: [
        { source: "eth0", network: "prod", test_network: "drill", ip: { method: "static", address: "192.0.2.7/24", gateway: "192.0.2.1", dns: ["192.0.2.1", "192.0.2.2"] }, test_ip: { method: "dhcp" } },
        { source: "10.1.0.0/16", network: "office", ip: { method: "translate", map: [{ from: "10.1.0.0/16", to: "10.9.0.0/16" }, { from: "10.2.0.0/16", to: "10.8.0.0/16" }] }, test_ip: { method: "keep" } },
        { source: "*", test_network: "drill" },
    ],
};

const withCard = (changes: Partial<MappingEntry["cards"][number]>): MappingEntry => ({ cpus: "", memoryMib: "", cards: [{ ...newCard("eth0"), ...changes }] });

describe("mapping", () => {
    it("comes back from the form as the hub has it", () => {
        expect(patchOf(entryOf(FULL))).toEqual(FULL);
    });

    it("keeps a size that is no whole number of MiB", () => {
        expect(patchOf(entryOf({ cpus: null, memory_bytes: 67_108_865, nics: [] })).memory_bytes).toBe(67_108_865);
    });

    it("is taken away with what is emptied", () => {
        expect(patchOf({ cpus: "", memoryMib: "", cards: [] })).toEqual({ cpus: null, memory_bytes: null, nics: null });
    });

    it("sends nothing of a method that was left again", () => {
        const address = { method: "keep" as const, address: "192.0.2.7/24", gateway: "192.0.2.1", dns: "192.0.2.1", map: "10.1.0.0/16=10.9.0.0/16" };
        expect(patchOf(withCard({ network: " prod ", address })).nics).toEqual([{ source: "eth0", network: "prod" }]);
    });

    it.each([
        ["a card without a source", withCard({ source: " " })],
        ["a static address without an address", withCard({ address: { ...newCard("x").address, method: "static" } })],
        ["translation without a map", withCard({ testAddress: { ...newCard("x").testAddress, method: "translate" } })],
        ["a map that is none", withCard({ address: { ...newCard("x").address, method: "translate", map: "10.1.0.0/16=10.9.0.0/16, 10.2.0.0/16" } })],
        ["tests in the network of production", withCard({ network: "prod", testNetwork: "prod" })],
        ["half a processor", { cpus: "1.5", memoryMib: "", cards: [] }],
        ["too little memory", { cpus: "", memoryMib: "32", cards: [] }],
        ["memory that is no number", { cpus: "", memoryMib: "much", cards: [] }],
    ])("does not send %s", (_what, entry) => {
        expect(isEntered(entry)).toBe(false);
    });

    it("sends what is whole", () => {
        expect(isEntered(entryOf(FULL))).toBe(true);
        expect(isEntered({ cpus: "", memoryMib: "", cards: [] })).toBe(true);
    });
});
