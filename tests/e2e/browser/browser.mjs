// SPDX-License-Identifier: Apache-2.0
//
// Debian's Chromium under Playwright, for tests that print `PASS name` and `FAIL name: reason`. Whatever a page does, the watcher
// listens: an error on the console, an exception, a violation of the content security policy, or an answer of 5xx fails the test
// that was running. Pictures go to $LEEWARD_ARTEFACTS. Nothing waits for time: only for what the page shows, generously.
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(new URL("../../../webui/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const axePath = require.resolve("axe-core/axe.min.js");

export const PATIENCE_MS = 120_000; // of one wait; two noisy cores share this machine with everything else
export const site = process.env.LEEWARD_URL;
export const artefacts = process.env.LEEWARD_ARTEFACTS;
mkdirSync(artefacts, { recursive: true });

export const SIZES = { desktop: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };

export class Failure extends Error {}
export function check(condition, text) {
    if (!condition) throw new Failure(text);
}

let complaints = [];
/** Words of the console that a test expects: the browser logs every answer of 4xx as an error. */
let expected = [];
export function expectComplaint(pattern) {
    expected.push(pattern);
}
function complain(text) {
    if (!expected.some((pattern) => pattern.test(text))) complaints.push(text);
}

function watch(page) {
    page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") complain(`${message.type()} on the console: ${message.text()} (${message.location().url})`);
    });
    page.on("pageerror", (error) => complain(`exception: ${error.message}`));
    page.on("response", (response) => {
        if (response.status() >= 500) complain(`${response.status()} from ${response.url()}`);
    });
}

export const browser = await chromium.launch({
    executablePath: process.env.LEEWARD_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"],
    timeout: PATIENCE_MS,
});

/** A browser profile of its own: { page, context }. options: language, theme, size, and Playwright's own. */
export async function open({ language = "en", theme = "light", size = "desktop", storageState, ...options } = {}) {
    const context = await browser.newContext({
        baseURL: site,
        ignoreHTTPSErrors: true, // the certificate is of the hub's own CA
        locale: { en: "en-GB", zh: "zh-CN", sv: "sv-SE" }[language],
        timezoneId: "Europe/Stockholm",
        viewport: SIZES[size],
        hasTouch: size === "phone",
        reducedMotion: "reduce",
        bypassCSP: false,
        storageState,
        ...options,
    });
    context.setDefaultTimeout(PATIENCE_MS);
    context.setDefaultNavigationTimeout(PATIENCE_MS);
    await context.addInitScript(
        ({ language, theme }) => {
            if (!localStorage.getItem("leeward-language")) localStorage.setItem("leeward-language", language);
            if (!localStorage.getItem("leeward-theme")) localStorage.setItem("leeward-theme", theme);
            document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
        },
        { language, theme },
    );
    const page = await context.newPage();
    watch(page);
    return { page, context };
}

export async function signIn(page, username, password) {
    await page.goto("/login");
    await page.fill("#username", username);
    await page.fill("#password", password);
    await page.click("#sign-in");
}

/** The page stands still: its main part is there and nothing of it is still being fetched for the first time. */
export async function settled(page) {
    await page.waitForSelector("main h1, main h2");
    await page.waitForFunction(() => !document.querySelector(".pf-v6-c-skeleton, [role=progressbar][aria-valuetext]"));
    await page.evaluate(() => document.fonts.ready);
}

export async function picture(page, name) {
    await page.screenshot({ path: join(artefacts, `${name}.png`), animations: "disabled" });
}

/** Axe is given to the page by the debugger, past the page's policy, which stays in force for the page itself. */
export async function accessible(page, what) {
    const { readFileSync } = await import("node:fs");
    await page.evaluate(readFileSync(axePath, "utf8") + "; undefined");
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    check(
        violations.length === 0,
        `axe on ${what}: ` + violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + (n.any[0]?.message ?? n.failureSummary ?? "")).join(" | ")}`).join("; "),
    );
}

const tests = [];
export function test(name, run) {
    tests.push({ name, run });
}

export async function main() {
    const only = process.argv.slice(2);
    let failed = 0;
    for (const { name, run } of tests) {
        if (only.length > 0 && !only.includes(name)) continue;
        complaints = [];
        expected = [];
        const begin = Date.now();
        try {
            await run();
            check(complaints.length === 0, complaints.slice(0, 5).join("; "));
            console.log(`PASS ${name}`);
        } catch (error) {
            failed++;
            console.error(error);
            console.log(`FAIL ${name}: ${[error.message, ...complaints.slice(0, 3)].join("; ").replace(/\s+/g, " ").slice(0, 900)}`);
            for (const [i, context] of browser.contexts().entries())
                for (const page of context.pages()) await picture(page, `failed-${name}-${i}`).catch(() => undefined);
        }
        console.error(`     ${name}: ${((Date.now() - begin) / 1000).toFixed(1)} s`);
        for (const context of browser.contexts()) await context.close();
    }
    await browser.close();
    process.exit(failed > 0 ? 1 : 0);
}
