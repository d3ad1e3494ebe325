// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import { fixupsOf, isEntered, NO_FIXUPS, reportOf } from "./fixups";

const usual = { drivers: true, storage: true, agent: true, serial_console: false };
const wanted = { ...NO_FIXUPS, isWanted: true };

describe("fix-ups", () => {
    it("are none unless they are asked for", () => expect(fixupsOf(NO_FIXUPS)).toBeUndefined());
    it("are what every replica needs without another word", () => expect(fixupsOf(wanted)).toEqual(usual));
    it("leave the network to the mappings without another word", () => expect(fixupsOf({ ...wanted, method: "mapping" })).toEqual(usual));
    it("say how the network changes, also that it does not", () => {
        expect(fixupsOf({ ...wanted, method: "keep" })).toEqual({ ...usual, network: { method: "keep" } });
        expect(fixupsOf({ ...wanted, method: "dhcp" })).toEqual({ ...usual, network: { method: "dhcp" } });
        expect(fixupsOf({ ...wanted, method: "static", address: "192.0.2.7/24", gateway: "192.0.2.1", serial: true })).toEqual({ ...usual, serial_console: true, network: { method: "static", address: "192.0.2.7/24", gateway: "192.0.2.1" } });
        expect(fixupsOf({ ...wanted, method: "translate", from: "10.1.0.0/16", to: "10.9.0.0/16", onFailure: "stop" })).toEqual({ ...usual, on_failure: "stop", network: { method: "translate", map: [{ from: "10.1.0.0/16", to: "10.9.0.0/16" }] } });
    });
    it("are entered when nothing is missing", () => {
        expect(isEntered(wanted)).toBe(true);
        expect(isEntered({ ...wanted, method: "static" })).toBe(false);
        expect(isEntered({ ...wanted, method: "translate", from: "10.1.0.0/16" })).toBe(false);
        expect(isEntered({ ...NO_FIXUPS, method: "static" })).toBe(true);
    });
});

describe("the list of their changes", () => {
    it("is not there where none were made", () => expect([reportOf({}), reportOf(undefined), reportOf(null), reportOf("x")]).toEqual([undefined, undefined, undefined, undefined]));
    it("is read whatever a guest has put into it", () => {
        const report = reportOf({ changes: [{ fixup: "storage", action: "edit", path: "/etc/fstab", why: "by UUID", lines: ["-/dev/sda1", 7, "+UUID=1"] }, "x", null], warnings: ["w", {}], applied: true, failed: { text: "no root" }, taken_back: { changes: [], warnings: [] } });
        expect(report?.changes).toEqual([{ fixup: "storage", action: "edit", path: "/etc/fstab", why: "by UUID", lines: ["-/dev/sda1", "+UUID=1"], failure: undefined }]);
        expect([report?.warnings, report?.applied, report?.failed, report?.unbootable, report?.takenBack?.changes]).toEqual([["w"], true, "no root", "", []]);
    });
});
