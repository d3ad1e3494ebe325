// SPDX-License-Identifier: Apache-2.0
//
// Many machines at once, as people with a keyboard and with a pointer change them.
import { accessible, check, expectComplaint, main, open, picture, settled, signIn, test } from "./browser.mjs";

const { LEEWARD_USERNAME: username, LEEWARD_FIRST_PASSWORD: firstPassword } = process.env;
const password = "correct horse battery";
const all = Number(process.env.LEEWARD_MACHINES);
const [bare] = JSON.parse(process.env.LEEWARD_BARE);

let storageState;
async function session() {
    expectComplaint(/status of 401/); // the login page asks who is signed in
    if (storageState) return storageState;
    const { page, context } = await open();
    await signIn(page, username, firstPassword);
    await page.click("#user-menu");
    await page.click("#change-own-password");
    await page.fill("#old-password", firstPassword);
    await page.fill("#new-password", password);
    await page.fill("#new-password-again", password);
    await page.click("#change-password");
    await page.waitForSelector(".lw-donut");
    storageState = { ...(await context.storageState()), origins: [] };
    await context.close();
    return storageState;
}

const machinesOf = async (context) => (await (await context.request.get("/api/v1/machines?limit=500")).json()).items;
const isFocused = (page, selector) => page.waitForFunction((wanted) => document.activeElement?.matches(wanted), selector);
const lines = (page) => page.locator('[role="dialog"] tr[data-id]').evaluateAll((rows) => rows.map((row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent)));

test("policy_and_site_of_machines_are_changed_with_the_keyboard_alone", async () => {
    expectComplaint(/status of 409/); // the one that is not protected
    const { page, context } = await open({ storageState: await session() });
    const two = (await machinesOf(context)).filter((one) => one.state === "protected").slice(0, 2);
    const wanted = [bare, ...two.map((one) => one.name)];
    await page.goto("/machines");
    await page.waitForSelector("table tbody tr[data-id]");
    for (const name of wanted) {
        await page.fill(".lw-search input", name);
        await page.getByLabel(`Select ${name}`, { exact: true }).focus();
        await page.keyboard.press("Space");
    }
    check((await page.textContent("#bulk-protect")) === "Protect (1)" && (await page.textContent("#bulk-resync")) === "Resynchronize (2)", "the buttons do not say what each is for");
    await page.focus("#bulk-settings");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#bulk-policy option >> nth=2", { state: "attached" });
    check((await page.textContent('[role="dialog"]')).includes("3 machines"), "the question does not say how many");
    check(await page.isDisabled("#dialog-act"), "nothing can be changed");
    await page.selectOption("#bulk-policy", { label: "gold" });
    await page.selectOption("#bulk-site", { label: "quay" });
    check((await page.textContent("#dialog-act")) === "Change 3 machines", "the button does not say how many");
    await page.waitForSelector("text=1 of them is not protected");
    await accessible(page, "question for many machines");
    await picture(page, "bulk-en-light-desktop");
    await page.focus("#bulk-site");
    await page.keyboard.press("Tab");
    await isFocused(page, "#dialog-act");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("#each-summary")?.textContent === "2 done, 1 not done");
    await isFocused(page, "#dialog-close");
    const [first, ...others] = await lines(page);
    check(first[0] === bare && first[1] === "Not done" && first[2].includes("not protected"), `the first line is ${first}`);
    check(others.length === 2 && others.every((one) => one[1] === "Done"), `the others are ${others}`);
    await accessible(page, "what became of many machines");
    await picture(page, "bulk-done-en-light-desktop");
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.waitForSelector("text=1 selected"); // the one that was not changed
    const now = (await machinesOf(context)).filter((one) => wanted.includes(one.name));
    check(now.every((one) => (one.name === bare ? one.site_name !== "quay" : one.policy_name === "gold" && one.site_name === "quay")), `not as it says: ${JSON.stringify(now.map((one) => [one.name, one.policy_name, one.site_name]))}`);
});

for (const [language, theme, title, left] of [["en", "light", "First copy", /^.+ left$/], ["zh", "dark", "首次复制", /^剩余 .+$/], ["sv", "light", "Första kopian", /^.+ kvar$/]])
    test(`a_copy_that_goes_on_says_how_fast_and_how_long_${language}`, async () => {
        const { page, context } = await open({ storageState: await session(), language, theme, size: language === "en" ? "desktop" : "phone" });
        const copying = (await machinesOf(context)).find((one) => one.state === "initial_replication"); // one of them takes hours
        check(copying.throughput_bytes_per_second > 0 && copying.remaining_seconds > 600, `no copy that goes on: ${JSON.stringify(copying)}`);
        await page.goto(`/machines/${copying.id}`);
        await page.waitForSelector("#copy-progress");
        await settled(page);
        check((await page.textContent("#copy-progress")).includes(title), "the copy has no title");
        const said = (await page.textContent("#copy-progress .lw-subtle")).split(" · ");
        check(said.length === 3 && /GiB/.test(said[0]) && /^[\d.,]+ [KMG]iB\/s$/.test(said[1]) && left.test(said[2]), `it says ${said}`);
        const share = Number(await page.getAttribute("#copy-progress [role=progressbar]", "aria-valuenow")) / 100;
        check(Math.abs(share - copying.initial_done_bytes / copying.initial_total_bytes) < 0.1, `the bar shows ${share}`);
        const facts = await page.locator("dd").allTextContents();
        check(facts.includes(said[1]), `the details have no throughput ${said[1]}: ${facts}`);
        await accessible(page, `copy that goes on ${language}`);
        await picture(page, `machine-copying-${language}-${theme}`);
        const ready = (await machinesOf(context)).find((one) => one.state === "protected");
        await page.goto(`/machines/${ready.id}`);
        await page.waitForSelector("dd");
        check((await page.locator("#copy-progress").count()) === 0, "a protected machine shows a copy");
    });

for (const [language, theme] of [["zh", "dark"], ["sv", "light"]])
    test(`all_machines_get_a_site_on_a_phone_${language}`, async () => {
        const { page, context } = await open({ storageState: await session(), language, theme, size: "phone" });
        const before = (await machinesOf(context)).filter((one) => one.site_name === "quay").length;
        await page.goto("/machines");
        await page.waitForSelector("#select-all", { state: "attached" });
        // A narrow table is a list of cards without a head: each is ticked for itself.
        for (const box of await page.locator("tr[data-id] input[type=checkbox]").all()) await box.check();
        const ticked = await page.locator("tr[data-id] input:checked").count();
        check(ticked > 5, `only ${ticked} machines could be ticked`);
        await page.click("#bulk-settings");
        await page.waitForSelector("#bulk-site option >> nth=2", { state: "attached" });
        await page.selectOption("#bulk-site", { label: "quay" });
        await settled(page);
        await accessible(page, `question for many machines ${language}`);
        await picture(page, `bulk-${language}-${theme}-phone`);
        await page.click("#dialog-act");
        await page.waitForSelector("#dialog-close");
        await accessible(page, `what became of many machines ${language}`);
        await picture(page, `bulk-done-${language}-${theme}-phone`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        check(wide <= 0, `the dialog is ${wide} pixels wider than the phone's screen`);
        await page.click("#dialog-close");
        await page.getByRole("dialog").waitFor({ state: "detached" });
        const after = (await machinesOf(context)).filter((one) => one.site_name === "quay").length;
        check(after >= Math.max(before, ticked), `${after} machines are there, ${ticked} were ticked`);
    });

test("all_machines_are_changed_at_once_with_a_line_for_each", async () => {
    const { page, context } = await open({ storageState: await session() });
    await page.goto("/machines");
    await page.waitForSelector("table tbody tr[data-id]");
    await page.check("#select-all");
    await page.click("#bulk-settings");
    await page.waitForSelector("#bulk-site option >> nth=2", { state: "attached" });
    await page.selectOption("#bulk-site", { value: "none" });
    await page.click("#dialog-act");
    await page.waitForSelector("#dialog-close");
    check((await machinesOf(context)).every((one) => one.site_name === null), "some have a site");
    check((await page.locator('[role="dialog"] table').getAttribute("aria-rowcount")) === String(all + 1), "not a line for each");
    check((await page.locator('[role="dialog"] tr[data-id]').count()) < all + 1, "lines out of sight are drawn");
    await page.click("#dialog-close");
    await page.waitForSelector("text=1 selected", { state: "detached" });
    check(!(await page.isVisible("#bulk-settings")), "machines that were changed are still ticked");
});

const alertsOf = async (context) => (await (await context.request.get("/api/v1/alerts?state=firing,acknowledged&limit=500")).json()).items;

test("alerts_are_acknowledged_together_with_a_note", async () => {
    const { page, context } = await open({ storageState: await session() });
    await page.goto("/alerts");
    await page.waitForFunction(() => document.querySelectorAll("table tbody tr[data-id]").length >= 2, undefined, { timeout: 60000 });
    check(!(await page.isVisible("#bulk-acknowledge")), "nothing is ticked, and something can be acknowledged");
    await page.check("#select-all");
    const asked = Number((await page.textContent("#bulk-acknowledge")).match(/\d+/)[0]);
    check(asked >= 2, `${asked} alerts are ticked`);
    await page.click("#bulk-acknowledge");
    await page.fill("#acknowledge-note", "a second disk is ordered");
    await accessible(page, "question for many alerts");
    await picture(page, "acknowledge-en-light-desktop");
    await page.click("#dialog-act");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.waitForSelector("text=Acknowledged by user:admin: a second disk is ordered");
    const taken = (await alertsOf(context)).filter((one) => one.state === "acknowledged" && one.note === "a second disk is ordered" && one.acknowledged_by === "user:admin");
    check(taken.length >= asked, `${taken.length} of ${asked} are acknowledged`);
    await picture(page, "acknowledged-en-light-desktop");
    check(!(await page.isVisible("#bulk-acknowledge")), "alerts that somebody has taken on can be acknowledged");
});

for (const [language, theme] of [["zh", "dark"], ["sv", "light"]])
    test(`acknowledged_alerts_on_a_phone_${language}`, async () => {
        const { page } = await open({ storageState: await session(), language, theme, size: "phone" });
        await page.goto("/alerts?state=acknowledged");
        await page.waitForSelector("table tbody tr[data-id]");
        await accessible(page, `alerts in ${language}`);
        await picture(page, `acknowledged-${language}-${theme}-phone`);
    });

await main();
