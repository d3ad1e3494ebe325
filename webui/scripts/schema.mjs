// SPDX-License-Identifier: Apache-2.0
//
// src/api/schema.d.ts: TypeScript types of hub/api/openapi.json. With --is-current: exit status 0 when the file is of this
// document already.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";

const document = new URL("../../hub/api/openapi.json", import.meta.url);
const target = new URL("../src/api/schema.d.ts", import.meta.url);
const first = `// Generated from hub/api/openapi.json ${createHash("sha256").update(readFileSync(document)).digest("hex")}\n`;

if (process.argv.includes("--is-current"))
    process.exit(existsSync(target) && readFileSync(target, "utf8").startsWith(first) ? 0 : 1);
const { default: generate, astToString } = await import("openapi-typescript");
writeFileSync(target, first + astToString(await generate(document, { alphabetize: false })));
