// SPDX-License-Identifier: Apache-2.0
//
// What the hub can say, as its description of the API lists it (which the hub's own tests hold to its tables): all of it has a text here, and none of it is left from what it said once.
import { readdirSync, readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import app from "../app/en.json";
import jobs from "../pages/jobs/en.json";
import words from "../words/en.json";

type Texts = { [key: string]: string | Texts };
const { "x-words": listed } = JSON.parse(readFileSync("../hub/api/openapi.json", "utf8")) as { "x-words": { jobs: Record<string, Texts>; findings: Texts; events: Texts; moves: string[]; reasons: string[] } };

/** The names of the values in each text, which are all that the languages have to have in common with the hub. */
function places(texts: Texts): Texts {
    const namesIn = (text: string) => [...text.matchAll(/\{+(\w+)\}+/g)].map(([, name]) => name).sort().join(" ");
    return Object.fromEntries(Object.entries(texts).map(([key, text]) => [key, typeof text === "string" ? namesIn(text) : places(text)]));
}

describe("words of the hub", () => {
    it("names each kind of job", () => {
        expect(Object.keys(app.jobs.kind).sort()).toEqual(Object.keys(listed.jobs).sort());
    });

    it("has the title of each step", () => {
        expect(jobs.step).toEqual(listed.jobs);
    });

    it("has a text for each finding, with all of its values", () => {
        expect(places(words.finding)).toEqual(places(listed.findings));
    });

    it("has a text for each event, with all of its values", () => {
        expect(places(words.event)).toEqual(places(listed.events));
    });

    it("names what values may be", () => {
        expect(Object.keys(words.move).sort()).toEqual([...listed.moves].sort());
        expect(Object.keys(words.reason).sort()).toEqual([...listed.reasons].sort());
    });

    it("has a title for what agents, nodes and vaults tell", () => {
        const sources = ["../mobility", "../transport"].flatMap((folder) => readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".c")).map((path) => readFileSync(`${folder}/${path}`, "utf8")));
        const codes = sources.flatMap((source) => [...source.matchAll(/event\(\s*[^";]*"(?:info|warning|error)",\s*(?:NULL,\s*)?"(\w+)"/g)].map(([, code]) => code));
        expect(codes.length).toBeGreaterThan(30);
        expect(codes.filter((code) => !Object.keys(words.told).includes(code ?? ""))).toEqual([]);
    });

    it("has a title for an alert of each finding", () => {
        expect(Object.keys(app.alert).sort()).toEqual(Object.keys(listed.findings).sort());
    });
});
