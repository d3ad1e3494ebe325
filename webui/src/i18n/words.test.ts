// SPDX-License-Identifier: Apache-2.0
//
// What the hub can say, as its description of the API lists it (which the hub's own tests hold to its tables): all of it has a text here, and none of it is left from what it said once.
import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import app from "../app/en.json";
import jobs from "../pages/jobs/en.json";

const { "x-words": words } = JSON.parse(readFileSync("../hub/api/openapi.json", "utf8")) as { "x-words": { jobs: Record<string, Record<string, string>> } };

describe("words of the hub", () => {
    it("names each kind of job", () => {
        expect(Object.keys(app.jobs.kind).sort()).toEqual(Object.keys(words.jobs).sort());
    });

    it("has the title of each step", () => {
        expect(jobs.step).toEqual(words.jobs);
    });
});
