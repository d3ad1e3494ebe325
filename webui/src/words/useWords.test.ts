// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import appSv from "../app/sv.json";
import { formatsOf } from "../i18n/format";
import sv from "./sv.json";
import { wordsOf } from "./useWords";

const resources: Record<string, unknown> = { app: appSv, words: sv };
/** As i18next finds a text: step by step along the key. */
const i18n = { language: "sv", getResource: (_language: string, namespace: string, key: string): unknown => key.split(".").reduce<unknown>((node, part) => (node as Record<string, unknown> | undefined)?.[part], resources[namespace]) };
const { finding } = wordsOf(i18n, formatsOf("sv"));
const said = { cause: "What the hub says", remedy: "and what to do" };

describe("what is wrong, in another language", () => {
    it("has its values as people of the language write them", () => {
        expect(finding("rpo_not_met", { rpo_seconds: 125, target_seconds: 15 }, said).cause).toBe("RPO är 2 min 5 s, målet 15 s");
        expect(finding("vault_filling", { form: "full", full_percent: 96 }, said).cause).toBe("Dess disk är full till 96 %".replace(" %", "\u00a0%"));
        expect(finding("certificate_expiry", { form: "expires", left_days: 3 }, said).cause).toBe("Dess certifikat går ut om 3 d");
    });

    it("says the form that the hub found", () => {
        expect(finding("agent_silent", { form: "never" }, said).cause).toBe("Agenten har aldrig hörts av");
        expect(finding("agent_silent", { form: "silent", silent_seconds: 60 }, said).cause).toBe("Agenten har varit tyst i 1 min");
    });

    it("names what the hub has words for, and leaves what somebody reports as it is said", () => {
        expect(finding("clock_skew", { form: "slow", skew_seconds: 7, who: "vault", peers: 0 }, said).remedy).toBe("Låt valvet hålla klockan med NTP.");
        expect(finding("job_failed", { form: "plain", job: "resync", problem: "no $t(way) {{at}} all", remedy: "" }, said).cause).toBe("Jobbet ”Synkronisera om” misslyckades: no $t(way) {{at}} all");
        expect(finding("job_failed", { form: "plain", job: "fly", problem: "x", remedy: "" }, said).cause).toBe("Jobbet ”fly” misslyckades: x");
        expect(finding("agent_error", { cause: "no disk", remedy: "" }, said)).toEqual({ cause: "Agenten rapporterar: no disk", remedy: "" });
    });

    it("is in the hub's words where the text or a value of it is not known", () => {
        expect(finding("on_fire", {}, said)).toEqual(said);
        expect(finding("rpo_not_met", {}, said)).toEqual(said);
        expect(finding("agent_silent", {}, said)).toEqual(said);
        expect(finding("agent_silent", { form: "snoring" }, said)).toEqual(said);
        expect(finding("agent_error", { cause: "no disk" }, said)).toEqual(said);
        expect(finding("constructor", {}, said)).toEqual(said);
        expect(finding("vault_refuses", {}, said).cause).toBe("Dess valv tar inte emot data");
    });
});
