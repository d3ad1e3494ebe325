// SPDX-License-Identifier: Apache-2.0
//
// How the console feels with many machines, measured in the browser itself: when its first page is usable with nothing in the cache, how long the
// longest task is that keeps the page from answering while the table of machines is scrolled from end to end, and while somebody types into its
// filter. Prints one JSON object.
import { browser, check, open, signIn } from "../e2e/browser/browser.mjs";

const { LEEWARD_USERNAME: username, LEEWARD_FIRST_PASSWORD: firstPassword, LEEWARD_ROUNDS: rounds } = process.env;
const password = "correct horse battery";

/** Notes when the first page shows its numbers, and every task of 50 ms and more. */
const watchPage = () => {
    window.lwTasks = [];
    new PerformanceObserver((list) => window.lwTasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask", buffered: true });
    const look = () => {
        if (document.querySelector(".lw-donut")) window.lwUsable ??= performance.now();
    };
    new MutationObserver(look).observe(document, { childList: true, subtree: true });
};
const longest = (page) => page.evaluate(() => Math.max(0, ...window.lwTasks.splice(0)));

async function signedIn() {
    const { page, context } = await open();
    await signIn(page, username, firstPassword);
    await page.waitForSelector("#old-password, #user-menu");
    if (await page.isVisible("#user-menu")) {
        await page.click("#user-menu");
        await page.click("#change-own-password");
    }
    await page.fill("#old-password", firstPassword);
    await page.fill("#new-password", password);
    await page.fill("#new-password-again", password);
    await page.click("#change-password");
    await page.waitForSelector(".lw-donut");
    const state = await context.storageState();
    await context.close();
    return { ...state, origins: [] };
}

async function fresh(storageState) {
    const { page, context } = await open({ storageState });
    await page.addInitScript(watchPage);
    return { page, context };
}

/** From the top of the table to its end, a row and more in each frame. */
const scroll = (page) =>
    page.evaluate(async () => {
        const scroller = document.querySelector(".lw-scroller");
        let frames = 0;
        let most = 0;
        for (let top = 0; top < scroller.scrollHeight; top += 160, frames++) {
            scroller.scrollTop = top;
            await new Promise((next) => requestAnimationFrame(next));
            most = Math.max(most, document.querySelectorAll("tr[data-id]").length);
        }
        return { frames, rows_in_document: most };
    });

async function round(storageState) {
    const { page, context } = await fresh(storageState);
    await page.goto("/");
    await page.waitForFunction(() => window.lwUsable !== undefined);
    const first = await page.evaluate(() => window.lwUsable);
    await page.goto("/machines");
    await page.waitForSelector("tr[data-id]");
    await page.evaluate(() => new Promise((idle) => requestIdleCallback(() => requestIdleCallback(idle)))); // the first drawing is over
    const firstTable = await longest(page);
    const scrolled = await scroll(page);
    const whileScrolling = await longest(page);
    await page.click(".lw-search input");
    await page.keyboard.type("sim-web", { delay: 60 });
    await page.waitForFunction(() => [...document.querySelectorAll("tr[data-id] strong")].every((one) => one.textContent.includes("web")));
    const whileTyping = await longest(page);
    await context.close();
    return { first_page_ms: first, scroll_task_ms: whileScrolling, filter_task_ms: whileTyping, first_table_task_ms: firstTable, ...scrolled };
}

const state = await signedIn();
const all = [];
for (let i = 0; i < Number(rounds ?? 3); i++) all.push(await round(state));
check(all.every((one) => one.frames > 50), "the table is too short to scroll");
console.log(JSON.stringify(all));
await browser.close();
