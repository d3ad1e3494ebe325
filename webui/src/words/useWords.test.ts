// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";

import appSv from "../app/sv.json";
import failoversSv from "../pages/failovers/sv.json";
import { formatsOf } from "../i18n/format";
import sv from "./sv.json";
import { wordsOf } from "./useWords";

const resources: Record<string, unknown> = { app: appSv, failovers: failoversSv, words: sv };
/** As i18next finds a text: step by step along the key. */
const i18n = { language: "sv", getResource: (_language: string, namespace: string, key: string): unknown => key.split(".").reduce<unknown>((node, part) => (node as Record<string, unknown> | undefined)?.[part], resources[namespace]) };
const { finding, event } = wordsOf(i18n, formatsOf("sv"));
const said = { cause: "What the hub says", remedy: "and what to do" };

describe("what is wrong, in another language", () => {
    it("has its values as people of the language write them", () => {
        expect(finding("rpo_not_met", { form: "late", rpo_seconds: 125, target_seconds: 15 }, said).cause).toBe("RPO är 2 min 5 s, målet 15 s");
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
        expect(finding("rpo_not_met", { form: "late" }, said)).toEqual(said);
        expect(finding("agent_silent", {}, said)).toEqual(said);
        expect(finding("agent_silent", { form: "snoring" }, said)).toEqual(said);
        expect(finding("agent_error", { cause: "no disk" }, said)).toEqual(said);
        expect(finding("constructor", {}, said)).toEqual(said);
        expect(finding("vault_refuses", {}, said).cause).toBe("Dess valv tar inte emot data");
    });
});

describe("what happened, in another language", () => {
    const told = (code: string, values: Record<string, string | number>) => event({ code, values, text: "What the hub tells", remedy: "and what to do" });

    it("names what the hub has words for", () => {
        expect(told("machine_state", { move: "first_point", from: "initial_replication", to: "protected" }).text).toBe("Första återställningspunkten: Första replikering → Skyddad");
        expect(told("job_finished", { form: "failed", job: "resync", problem: "/dev/vdb is gone", remedy: "Look." })).toEqual({ text: "Jobbet ”Synkronisera om” misslyckades: /dev/vdb is gone", remedy: "Look." });
        expect(told("failover_running", { failover: "test", machine: "web1", sequence: 12, target: "kvm", rto_seconds: "12.3", boot_check: "passed" }).text).toBe("Växling av web1 (Test): punkt 12 körs på kvm efter 12 s; startkontroll: Godkänd");
    });

    it("says the finding that it tells of, with its values", () => {
        expect(told("health_changed", { form: "unhealthy", who: "node", name: "n1", level: "critical", finding: "node_silent.silent", silent_seconds: 42 })).toEqual({ text: "Hälsa för noden n1: Kritisk. Noden har varit tyst i 42 s", remedy: "Kontrollera att den körs och att den når hubbens kontrollport." });
        expect(told("health_changed", { form: "unhealthy", who: "node", name: "n1", level: "warning", finding: "clock_skew.fast", skew_seconds: 9, peers: 0 }).remedy).toBe("Låt noden hålla klockan med NTP.");
        expect(told("health_changed", { form: "unhealthy", who: "node", name: "n1", level: "critical", finding: "on_fire" }).text).toBe("What the hub tells");
    });

    it("names the first alerts of many", () => {
        const some = { form: "raised", resolved: 0, alerts: "in English", name_1: "web1", alert_1: "rpo_not_met", name_2: "web2", alert_2: "no_such_rule" };
        expect(told("alerts_changed", { ...some, raised: 2 }).text).toBe("Larm: 2 nya (web1: RPO överskrider målet och web2: no_such_rule), 0 lösta");
        expect(told("alerts_changed", { ...some, raised: 7 }).text).toContain("…), 0 lösta");
        expect(told("alert_acknowledged", { name: "web1", alert: "clock_skew", title: "A clock is wrong" }).text).toBe("Larm kvitterat: web1: En klocka går fel");
    });

    it("is in the hub's words where it came without values, or nobody here knows it", () => {
        expect(told("machine_state", {}).text).toBe("What the hub tells");
        expect(told("job_finished", { form: "failed", job: "resync" }).remedy).toBe("and what to do");
        expect(told("no_such_news", {}).text).toBe("What the hub tells");
    });

    it("names what agents, nodes and vaults tell, and leaves it in their words", () => {
        expect(told("resync_started", {})).toEqual({ text: "Omsynkronisering har börjat", said: "What the hub tells", remedy: "and what to do" });
    });
});
