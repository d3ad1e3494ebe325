// SPDX-License-Identifier: Apache-2.0
//
// Every page of the console in every language, theme and size; and who gets in.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

import { accessible, check, expectComplaint, main, open, picture, settled, signIn, SIZES, test } from "./browser.mjs";

/** The agent of another machine, as a command of the page says. Its folder and instance are the caller's to take away. */
function startAgent(name, words) {
    const process_ = spawn(join(process.env.LEEWARD_BIN, "leeward-agent"), ["--data", `${process.env.LEEWARD_AGENT_DATA}-${name}`, "--instance", `${process.env.LEEWARD_AGENT_INSTANCE}-${name}`, "--name", name, ...words], { stdio: "ignore" });
    const over = new Promise((resolve) => process_.on("exit", resolve));
    const kill = () => process_.kill("SIGKILL");
    process.on("exit", kill);
    return {
        over,
        end: async () => {
            process_.kill("SIGTERM");
            await over;
            process.off("exit", kill);
        },
    };
}

const username = process.env.LEEWARD_USERNAME;
const password = process.env.LEEWARD_PASSWORD;
const machine = JSON.parse(process.env.LEEWARD_MACHINE);
const run = process.env.LEEWARD_RUN;
const failover = process.env.LEEWARD_FAILOVER;
/** { own, copy }: the vault that the machine is replicated to, and the one that keeps a copy of its points. */
const vaults = JSON.parse(process.env.LEEWARD_VAULTS);
const firstPassword = process.env.LEEWARD_FIRST_PASSWORD;

let storageState;
/** Signed in once; every later profile starts with that cookie. */
async function session() {
    expectComplaint(/status of 401/); // the login page asks who is signed in
    if (!storageState) {
        const { page, context } = await open();
        await signIn(page, username, password);
        await page.waitForSelector("#user-menu");
        storageState = await context.storageState();
        storageState.origins = [];
        await context.close();
    }
    return storageState;
}

export const pages = [
    { name: "overview", path: "/", shows: ".lw-donut" },
    { name: "machines", path: "/machines", shows: "table tbody tr[data-id]" },
    { name: "alerts", path: "/alerts?state=firing,acknowledged,resolved", shows: "main h1" },
    { name: "machine", path: () => `/machines/${machine.id}?hours=1`, shows: ".lw-chart canvas" },
    { name: "machine-points", path: () => `/machines/${machine.id}?tab=points`, shows: "#chosen-point" },
    { name: "machine-copies", path: () => `/machines/${machine.id}?tab=copies&copy=${vaults.copy.id}`, shows: "#copy-points table tbody tr" },
    { name: "machine-disks", path: () => `/machines/${machine.id}?tab=disks`, shows: "table tbody tr" },
    { name: "machine-mapping", path: () => `/machines/${machine.id}?tab=mapping`, shows: "#mapping-failover" },
    { name: "machine-events", path: () => `/machines/${machine.id}?tab=events`, shows: "table tbody tr" },
    { name: "map", path: "/map", shows: ".react-flow__edge" },
    { name: "failovers", path: "/failovers", shows: ".lw-page-header" },
    { name: "plans", path: "/plans", shows: "table tbody tr[data-id]" },
    { name: "plan-runs", path: "/plans?show=runs", shows: "table tbody tr[data-id]" },
    { name: "plan", path: "/plans/office", shows: ".react-flow__node" },
    { name: "plan-run", path: () => `/plan-runs/${run}`, shows: ".react-flow__node" },
    { name: "drills", path: "/drills", shows: "table tbody tr[data-id]" },
    { name: "drill-machines", path: "/drills?show=uncovered", shows: ".lw-page-header" },
    { name: "failover", path: () => `/failovers/${failover}`, shows: "#fixups [data-path]" },
    { name: "failover-wizard", path: "/failovers/new", shows: "#kinds" },
    { name: "restore", path: "/restore", shows: "#machine" },
    { name: "protect", path: "/protect", shows: "#make-token" },
    { name: "approvals", path: "/approvals", shows: ".lw-page-header" },
    { name: "groups", path: "/groups", shows: ".lw-page-header" },
    { name: "jobs", path: "/jobs", shows: "table tbody tr[data-id]" },
    { name: "events", path: "/events", shows: "table tbody tr[data-id]" },
    { name: "audit", path: "/events?show=audit", shows: "table tbody tr[data-id]" },
    { name: "nodes", path: "/infrastructure", shows: "table tbody tr[data-id]" },
    { name: "vaults", path: "/infrastructure?show=vaults", shows: "table tbody tr[data-id]" },
    { name: "vault", path: () => `/vaults/${vaults.copy.id}`, shows: "#kept-copies table tbody tr[data-id]" },
    { name: "sites", path: "/infrastructure?show=sites", shows: "table tbody tr[data-id]" },
    { name: "policies", path: "/policies", shows: "table tbody tr[data-id]" },
    { name: "users", path: "/access", shows: "table tbody tr[data-id]" },
    { name: "tokens", path: "/access?show=tokens", shows: "table tbody tr[data-id]" },
    { name: "enrolment", path: "/access?show=enrolment", shows: "table tbody tr[data-id]" },
    { name: "settings", path: "/settings", shows: "#site_name" },
    { name: "nowhere", path: "/nowhere/at/all", shows: "h1" },
];

const views = [
    { language: "en", theme: "light", size: "desktop" },
    { language: "en", theme: "dark", size: "desktop" },
    { language: "en", theme: "light", size: "phone" },
    { language: "zh", theme: "light", size: "desktop" },
    { language: "zh", theme: "dark", size: "phone" },
    { language: "sv", theme: "light", size: "desktop" },
    { language: "sv", theme: "dark", size: "phone" },
];

test("administrator_chooses_a_password", async () => {
    expectComplaint(/status of 401/);
    const { page } = await open();
    await signIn(page, username, firstPassword);
    await page.click("#user-menu");
    await page.click("#change-own-password");
    await page.waitForSelector("#old-password");
    await accessible(page, "change of password");
    await picture(page, "password-en-light-desktop");
    await page.fill("#old-password", firstPassword);
    await page.fill("#new-password", password);
    await page.fill("#new-password-again", password + "x");
    check(await page.isDisabled("#change-password"), "two different passwords can be sent");
    await page.fill("#new-password-again", password);
    await page.click("#change-password");
    await page.waitForSelector(".lw-donut");
});

test("wrong_password_is_refused", async () => {
    expectComplaint(/status of 401/);
    const { page } = await open();
    await signIn(page, username, "not the password");
    await page.waitForSelector(".pf-v6-c-alert.pf-m-danger");
    check((await page.textContent(".pf-v6-c-alert")).length > 20, "the refusal says nothing");
    await accessible(page, "refused login");
    check(new URL(page.url()).pathname === "/login", "the login page was left");
});

test("stranger_is_sent_to_login_and_back", async () => {
    expectComplaint(/status of 401/);
    const { page } = await open();
    await page.goto("/machines?health=healthy");
    await page.waitForURL(/\/login\?/);
    await page.fill("#username", username);
    await page.fill("#password", password);
    await page.click("#sign-in");
    await page.waitForURL(/\/machines\?health=healthy/);
    await page.waitForSelector("table tbody tr[data-id]");
});

for (const view of views)
    test(`login_${view.language}_${view.theme}_${view.size}`, async () => {
        expectComplaint(/status of 401/);
        const { page } = await open(view);
        await page.goto("/login");
        await page.waitForSelector("#sign-in");
        await settled(page);
        await accessible(page, "login");
        await picture(page, `login-${view.language}-${view.theme}-${view.size}`);
    });

for (const view of views)
    test(`pages_${view.language}_${view.theme}_${view.size}`, async () => {
        const { page } = await open({ ...view, storageState: await session() });
        for (const { name, path, shows } of pages) {
            await page.goto(typeof path === "string" ? path : path());
            await page.waitForSelector(shows);
            await settled(page);
            await accessible(page, `${name} ${view.language} ${view.theme} ${view.size}`);
            await picture(page, `${name}-${view.language}-${view.theme}-${view.size}`);
            const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
            check(wide <= 0, `${name} is ${wide} pixels wider than the ${view.size}'s screen`);
        }
    });

test("point_is_made_and_opened_and_others_are_reached_by_keyboard", async () => {
    const { page } = await open({ storageState: await session() });
    await page.goto(`/machines/${machine.id}?tab=points`);
    await page.click("#action-point");
    await page.waitForSelector("#point-tag");
    await accessible(page, "dialog of a new point");
    await page.selectOption("#point-kind", "filesystem");
    await page.fill("#point-tag", "from the browser");
    await page.click("#dialog-act");
    await page.waitForSelector("#dialog-act", { state: "detached" });
    const row = page.locator("table tbody tr", { hasText: "from the browser" });
    // Nothing is pressed: the event of the finished job, or the next tick, brings it.
    await row.waitFor();
    await row.getByRole("button").first().click();
    await page.click("#open-write");
    await page.click("#dialog-act");
    await page.waitForSelector("#opened code");
    check((await page.textContent("#opened code")).startsWith("nbd"), "no address of an opened disk");
    await accessible(page, "dialog of an open point");
    await picture(page, "opened-en-light-desktop");
    await page.keyboard.press("Escape");
    await page.waitForSelector("#opened", { state: "detached" });
    const marks = page.locator(".lw-band path.lw-band-filesystem");
    check((await marks.getAttribute("d")).length > 0, "the timeline has no line for the point");
    check((await marks.evaluate((path) => getComputedStyle(path).stroke)) !== "none", "the lines of the timeline have no colour");
    const newest = await page.textContent("#chosen-point");
    await page.focus("#timeline-range");
    await page.keyboard.press("PageDown"); // a tenth of the width
    await page.waitForFunction((before) => document.querySelector("#chosen-point").textContent !== before, newest);
});

test("each_number_of_the_overview_leads_to_as_many_rows", async () => {
    const { page } = await open({ storageState: await session() });
    const numbers = () =>
        page.evaluate(() =>
            [...document.querySelectorAll(".lw-donut-list li, .lw-figure")].map((one) => ({ to: one.querySelector("a").getAttribute("href"), said: Number(one.textContent.match(/\d+/)[0]) })),
        );
    const rowsOf = async (to) => {
        await page.goto(to);
        await page.waitForSelector("table tbody tr[data-id], .pf-v6-c-empty-state");
        return page.locator("table tbody tr[data-id]").count();
    };
    await page.goto("/");
    await page.waitForSelector(".lw-donut");
    const links = (await numbers()).map((one) => one.to);
    check(links.length >= 16 && new Set(links).size === links.length, `two numbers lead to one list: ${links}`);
    for (const to of links) {
        let said, rows;
        // Things may change between the two looks: what does not fit is looked at again.
        for (let round = 0; round < 5 && (round === 0 || said !== rows); round++) {
            await page.goto("/");
            await page.waitForSelector(".lw-donut");
            said = (await numbers()).find((one) => one.to === to).said;
            rows = await rowsOf(to);
        }
        check(said === rows, `the overview says ${said}, ${to} has ${rows}`);
    }
});

test("a_line_of_copies_on_the_map_leads_to_their_machines", async () => {
    const { page } = await open({ storageState: await session() });
    const isThere = async () => {
        await page.waitForURL((url) => url.pathname === "/machines" && url.searchParams.get("vault") === vaults.own.id && url.searchParams.get("copy") === vaults.copy.id);
        await page.waitForSelector(`tr[data-id="${machine.id}"]`);
    };
    const line = `[data-id="v:${vaults.own.id}>v:${vaults.copy.id}"]`;
    await page.goto("/map");
    await page.locator(`.react-flow__edge${line}`, { hasText: "1 machine" }).waitFor();
    await look(page, "map-copies");
    // Its label is wide enough to be met, and between the vaults and the frame.
    const [label, frame, box] = await Promise.all([`${line} .react-flow__edge-textwrapper`, ".lw-map", `.react-flow__node[data-id="v:${vaults.own.id}"]`].map((what) => page.locator(what).boundingBox()));
    check(label.x + label.width / 2 > box.x + box.width && label.x + label.width <= frame.x + frame.width, `the label is not beside the vaults: ${JSON.stringify({ label, frame, box })}`);
    await page.mouse.click(label.x + label.width / 2, label.y + label.height / 2);
    await isThere();
    await page.goto("/map");
    await page.focus("details summary");
    await page.keyboard.press("Enter");
    await page.locator("#map-list a", { hasText: "Copies from" }).focus();
    await accessible(page, "map as a list");
    await page.keyboard.press("Enter");
    await isThere();
    await page.goto("/machines?copy=none");
    await page.waitForSelector(".pf-v6-c-empty-state, table tbody tr[data-id]");
    check((await page.locator(`tr[data-id="${machine.id}"]`).count()) === 0, "a machine with a copy has none");
});

test("filters_are_the_address", async () => {
    const { page } = await open({ storageState: await session() });
    await page.goto("/");
    await page.click(".lw-donut-list a >> nth=2");
    await page.waitForURL(/\/machines\?health=healthy/);
    await page.goto("/machines?q=no-such-machine");
    await page.waitForSelector(".pf-v6-c-empty-state");
    await page.goto(`/machines?q=${encodeURIComponent(machine.name)}&sort=-rpo`);
    await page.waitForSelector(`tr[data-id="${machine.id}"]`);
});

test("a_plan_is_checked_before_it_is_saved", async () => {
    expectComplaint(/status of 400/);
    const { page } = await open({ storageState: await session() });
    const gate = (name, after) => ({ name, type: "gate", question: "?", after });
    const plan = (first) => JSON.stringify({ name: "from the console", groups: [{ name: "g", steps: [gate("a", first), gate("b", ["a"])] }] });
    await page.goto("/plans/new");
    await page.waitForSelector("#plan-text");
    await page.fill("#plan-text", "{");
    await page.waitForSelector("#save-plan[disabled]");
    await page.fill("#plan-text", plan(["b"]));
    await page.click("#check-plan:not([disabled])");
    await page.waitForSelector("text=a -> b -> a");
    await page.fill("#plan-text", plan([]));
    await page.click("#check-plan:not([disabled])");
    await page.waitForSelector(".pf-v6-c-alert.pf-m-success");
    await page.click("#save-plan");
    await page.waitForURL((url) => /^\/plans\/[0-9a-f-]{36}$/.test(url.pathname));
    await page.waitForSelector(".react-flow__node");
});

test("a_gate_is_answered_and_its_run_cleaned_up", async () => {
    const { page } = await open({ storageState: await session() });
    await page.goto(`/plan-runs/${run}`);
    await page.waitForSelector("text=Is the server well?");
    await page.click(".pf-v6-c-alert.pf-m-warning button");
    await page.click("#run-cleanup");
    await page.waitForSelector('[role="dialog"]');
    await settled(page);
    await accessible(page, "cleanup of a run");
    await page.click('[role="dialog"] button[type="submit"]');
    await page.waitForURL(/\/jobs\//);
});

/** Seen as it is now, with axe; kept as a picture. */
async function look(page, name, view = "en-light-desktop") {
    await settled(page);
    await accessible(page, `${name} ${view}`);
    await picture(page, `${name}-${view}`);
}

async function speak(page, tag) {
    await page.click("#language");
    await page.click(`[role=option][lang="${tag}"], [lang="${tag}"] [role=option]`);
    await page.waitForFunction((wanted) => document.documentElement.lang === wanted, tag);
}

/** The step of a wizard in each language, the other two on a phone; what was chosen in it stays. */
async function lookAround(page, name) {
    await look(page, name);
    for (const [language, tag] of [["zh", "zh-Hans"], ["sv", "sv"]]) {
        await speak(page, tag);
        await page.setViewportSize(SIZES.phone);
        await page.waitForFunction(() => document.querySelector("#user-menu").getBoundingClientRect().right <= window.innerWidth); // the header has become narrow
        await look(page, name, `${language}-light-phone`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        check(wide <= 0, `${name} is ${wide} pixels wider than the phone's screen`);
        await page.setViewportSize(SIZES.desktop);
    }
    await speak(page, "en");
}

test("protect_wizard_leads_from_a_token_to_the_first_point", async () => {
    const { page } = await open({ storageState: await session() });
    await page.goto("/machines");
    await page.click("#protect-machine");
    await page.click("#make-token");
    await page.waitForSelector("#arrival");
    await lookAround(page, "protect-command");
    check(await page.isDisabled("#wizard-next"), "the wizard goes on without a machine");
    // What the page says is what the machine runs.
    const command = (await page.locator("input[readonly]").last().inputValue()).split(" ");
    const agent = startAgent("second", command.slice(1));
    try {
        await page.waitForSelector("#arrival[data-ready=true]");
        await lookAround(page, "protect-contact");
        await page.click("#wizard-next");
        const ticked = page.locator("#disk-choice input:checked");
        await ticked.first().waitFor();
        while (await ticked.count()) await ticked.first().uncheck();
        check(await page.isDisabled("#wizard-next"), "no disk is enough");
        await page.locator("#disk-choice").getByLabel(new RegExp(`^${process.env.LEEWARD_SECOND_DISK} `)).check();
        await lookAround(page, "protect-disks");
        await page.click("#wizard-next");
        await page.waitForSelector("#policy");
        await lookAround(page, "protect-policy");
        await page.click("#wizard-next");
        await page.waitForSelector("#first-copy");
        await lookAround(page, "protect-copy");
        await page.waitForSelector("#first-copy[data-status=succeeded]");
        await page.click("#to-machine");
        await page.waitForURL(/\/machines\/[0-9a-f-]{36}/);
    } finally {
        await agent.end();
    }
});

test("a_lost_machine_is_restored_to_the_disk_of_a_rescue_system", async () => {
    const { page, context } = await open({ storageState: await session() });
    const ask = async (path, data) => {
        const { csrf_token } = await (await context.request.get("/api/v1/session")).json();
        return (await context.request.fetch(path, data ? { method: "POST", data, headers: { "X-CSRF-Token": csrf_token } } : {})).json();
    };
    const { token } = await ask("/api/v1/enrolment-tokens", { role: "agent", name: "rescue" });
    const { control_port } = await ask("/api/v1/status");
    const agent = startAgent("spare", ["--rescue", "--hub", `127.0.0.1:${control_port}`, "--token", token]);
    try {
        // The machine of the test before, whose agent is gone.
        await page.goto("/machines?q=second");
        await page.locator("tr[data-id]", { hasText: "second" }).getByRole("link").first().click();
        await page.click("#to-restore");
        await page.waitForSelector("#point-choice[data-sequence]");
        await lookAround(page, "restore-point");
        await page.click("#wizard-next");
        await page.locator("#receiver-choice").getByLabel("spare", { exact: true }).check();
        await lookAround(page, "restore-target");
        await page.click("#wizard-next");
        await page.waitForSelector("#onto-0");
        // This machine has disks of its own: only the one that was made for this is written.
        const onto = page.locator("#onto-0 option", { hasText: `${process.env.LEEWARD_SPARE_DISK} ` });
        await onto.waitFor({ state: "attached" });
        await page.selectOption("#onto-0", await onto.getAttribute("value"));
        await lookAround(page, "restore-disks");
        await page.uncheck("#write-0");
        check(await page.isDisabled("#wizard-next"), "no disk is enough");
        await page.check("#write-0");
        check(await page.isDisabled("#wizard-next"), "a disk goes nowhere");
        await page.selectOption("#onto-0", await onto.getAttribute("value"));
        await page.click("#wizard-next");
        await page.waitForSelector("#precheck[data-passed=true]");
        const lines = await page.locator("#overwritten li").allTextContents();
        check(lines.length === 1 && lines[0].startsWith(process.env.LEEWARD_SPARE_DISK), `what is overwritten: ${lines}`);
        await page.fill("#typed", "second");
        check(await page.isDisabled("#wizard-next"), "the name of the other machine is enough");
        await page.fill("#typed", "spare");
        await lookAround(page, "restore-confirm");
        await page.click("#wizard-next");
        await page.waitForSelector("#overwriting[data-status=succeeded]");
        await page.waitForSelector("#moved");
        await lookAround(page, "restore-done");
        await agent.over; // the rescue system starts the machine from its disks
    } finally {
        await agent.end();
    }
});

test("a_machine_fails_over_for_good_and_back", async () => {
    const { page, context } = await open({ storageState: await session() });
    const ask = async (path) => (await context.request.get(path)).json();
    const second = async () => (await ask("/api/v1/machines")).items.find((one) => one.name === "second");
    const { control_port } = await ask("/api/v1/status");
    const agent = startAgent("second", ["--hub", `127.0.0.1:${control_port}`]); // from its new disk, as it would after the restore
    const submit = () => page.click('[role="dialog"] button[type="submit"]');
    try {
        const { id } = await second();
        await page.goto(`/machines/${id}`);
        await page.waitForFunction(() => document.querySelector("#to-failover") && !document.querySelector("#to-restore")); // it is there again
        await page.click("#to-failover");
        await page.click("#kind-unplanned");
        await page.click("#wizard-next");
        await page.waitForSelector("#point-choice[data-sequence]");
        await page.click("#wizard-next");
        await page.check("#fixups");
        await page.selectOption("#fixup-network", "static");
        check(await page.isDisabled("#wizard-next"), "a static address without an address");
        await lookAround(page, "failover-fixups");
        await page.uncheck("#fixups");
        await page.click("#wizard-next");
        await page.waitForSelector("#precheck[data-passed=true]");
        await page.fill("#typed", "second");
        await page.click("#wizard-next");
        await page.waitForSelector("#failover[data-state=running] #act-commit");
        await page.click("#act-commit");
        await page.fill("#typed", "second");
        await submit();
        await page.waitForSelector("#failover[data-state=committed] #act-reprotect");
        await lookAround(page, "failover-committed");
        await page.click("#act-reprotect");
        await page.waitForSelector("#precheck[data-passed=true]");
        const others = page.locator("#old-vault option:not([value=''])");
        await others.first().waitFor({ state: "attached" });
        check((await others.count()) === 1, `a replica can be protected to more vaults than the other one: ${await others.allTextContents()}`);
        await look(page, "failover-reprotect");
        await page.selectOption("#old-vault", await others.first().getAttribute("value"));
        await page.waitForSelector("#precheck[data-passed=true]");
        await submit();
        await page.waitForSelector("#failover[data-state=reprotected] #act-failback");
        // The agent of its source runs all the time: the machine's page says what becomes of that, and leads to the way back.
        const failover = page.url();
        await page.goto(`/machines/${id}`);
        await page.getByText("nothing that the source sends is taken").first().waitFor();
        await page.getByText("leeward failover failback").first().waitFor();
        await look(page, "machine-fenced");
        await page.click("#to-present-failover");
        await page.waitForSelector("#failover[data-state=reprotected] #act-failback");
        check(page.url() === failover, `another failover is shown: ${page.url()}`);
        await page.click("#act-failback");
        await page.waitForSelector("#failback-facts");
        check((await page.locator("#failback-facts li").allTextContents()).some((line) => line.startsWith(process.env.LEEWARD_SPARE_DISK)), "the disk that is overwritten is not told");
        await lookAround(page, "failback-what");
        await page.click("#wizard-next");
        await page.waitForSelector("#receiver-original:checked");
        await lookAround(page, "failback-target");
        await page.click("#wizard-next");
        await page.waitForSelector("#precheck[data-passed=true]");
        check(await page.isDisabled("#wizard-next"), "a failback begins without the machine's name");
        await page.fill("#typed", "second");
        await lookAround(page, "failback-confirm");
        await page.click("#wizard-next");
        await page.waitForSelector("#overwriting[data-status=succeeded]");
        await page.waitForSelector("#moved");
        await lookAround(page, "failback-done");
        await page.click("#to-machine");
        await page.waitForURL(/\/machines\/[0-9a-f-]{36}/);
        check((await second()).state === "protected", "the machine is not protected");
        check((await ask(`/api/v1/machines/${id}/copies`)).items.length === 1, "no other vault keeps a copy of the replica's points");
    } finally {
        await agent.end();
    }
});

test("limits_of_a_node_are_set_and_a_wrong_one_is_refused", async () => {
    expectComplaint(/status of 400/);
    const { page, context } = await open({ storageState: await session() });
    const node = async () => (await (await context.request.get("/api/v1/nodes")).json()).items[0];
    const { name } = await node();
    await page.goto("/infrastructure");
    const show = async () => {
        await page.locator("tr[data-id]", { hasText: name }).getByRole("button").last().click();
        await page.waitForSelector("#throttle_bytes_per_second");
    };
    const save = () => page.click('[role="dialog"] button[type="submit"]');
    await show();
    await look(page, "node-limits"); // the language stands behind the dialog
    await page.fill("#throttle_bytes_per_second", "-1");
    check(await page.isDisabled('[role="dialog"] button[type="submit"]'), "a negative limit can be sent");
    await page.fill("#throttle_bytes_per_second", "2500");
    await page.fill("#work-hours", "whenever");
    await save();
    await page.waitForSelector('[role="dialog"] .pf-v6-c-alert.pf-m-danger');
    await look(page, "node-limits-refused");
    await page.fill("#work-hours", "mon-fri 08:00-18:00");
    await page.fill("#work-hours-zone", "Europe/Stockholm");
    await page.fill("#work_hours_throttle_bytes_per_second", "1000");
    await save();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    const set = await node();
    check(set.throttle_bytes_per_second === 2_500_000 && set.work_hours_throttle_bytes_per_second === 1_000_000 && set.work_hours_time_zone === "Europe/Stockholm", `not what was entered: ${JSON.stringify(set)}`);
    await show(); // and taken back: the tests after this send at full speed
    check((await page.inputValue("#throttle_bytes_per_second")) === "2500", "the dialog does not show what is set");
    await page.fill("#throttle_bytes_per_second", "0");
    await page.fill("#work-hours", "");
    await page.fill("#work_hours_throttle_bytes_per_second", "0");
    await save();
    await page.getByRole("dialog").waitFor({ state: "detached" });
});

test("mapping_is_entered_for_a_machine_and_its_site_and_taken_back", async () => {
    expectComplaint(/status of 400/);
    const { page, context } = await open({ storageState: await session() });
    const mapping = async (path) => (await context.request.get(`/api/v1/${path}/mapping`)).json();
    const before = await mapping(`machines/${machine.id}`);
    await page.goto(`/machines/${machine.id}?tab=mapping`);
    await page.waitForSelector("#mapping-failover");
    check(await page.isDisabled("#save-mapping"), "what nobody has changed can be saved");
    await page.fill("#mapping-cpus", "3");
    await page.fill("#mapping-memory", "1536");
    await page.click("#add-card");
    await page.fill("#card-0-source", "*");
    await page.fill("#card-0-network", "prod");
    await page.fill("#card-0-test-network", "prod");
    check(await page.isDisabled("#save-mapping"), "a test can be mapped to the network of production");
    await page.fill("#card-0-test-network", "drill");
    await page.selectOption("#card-0-test-ip", "dhcp");
    await page.selectOption("#card-0-ip", "static");
    check(await page.isDisabled("#save-mapping"), "a static address without an address can be saved");
    await page.fill("#card-0-ip-address", "192.0.2.700/24");
    await lookAround(page, "mapping");
    await page.click("#save-mapping"); // whether it is an address is the hub's to say, and the form stays
    await page.waitForSelector("form .pf-v6-c-alert.pf-m-danger");
    await look(page, "mapping-refused");
    await page.fill("#card-0-ip-address", "192.0.2.7/24");
    await page.fill("#card-0-ip-dns", "192.0.2.1, 192.0.2.2");
    await page.click("#save-mapping");
    await page.waitForSelector("form .pf-v6-c-alert.pf-m-success");
    const nic = { source: "*", network: "prod", test_network: "drill", ip: { method: "static", address: "192.0.2.7/24", dns: ["192.0.2.1", "192.0.2.2"] }, test_ip: { method: "dhcp" } };
    const set = await mapping(`machines/${machine.id}`);
    check(isDeepStrictEqual([set.cpus, set.memory_bytes, set.nics], [3, 1536 * 1048576, [nic]]), `not what was entered: ${JSON.stringify(set)}`);
    await page.locator("#mapping-test", { hasText: "1.5" }).waitFor(); // and what it comes to is told anew
    await page.fill("#mapping-cpus", "");
    await page.fill("#mapping-memory", "");
    await page.locator("#card-0").getByRole("button").last().click();
    await page.click("#save-mapping");
    await page.waitForSelector("form .pf-v6-c-alert.pf-m-success");
    const after = await mapping(`machines/${machine.id}`);
    check(isDeepStrictEqual([after.cpus, after.memory_bytes, after.nics], [before.cpus, before.memory_bytes, before.nics]), `the mapping is not gone: ${JSON.stringify(after)}`);
    await page.goto("/infrastructure?show=sites");
    await page.waitForSelector("table tbody tr[data-id]");
    const siteId = await page.locator("tr[data-id]").first().getAttribute("data-id");
    const show = async () => {
        await page.locator(`tr[data-id="${siteId}"] [data-action=mapping]`).click();
        await page.waitForSelector("#mapping-cpus");
    };
    const save = async () => {
        await page.click('[role="dialog"] button[type="submit"]');
        await page.getByRole("dialog").waitFor({ state: "detached" });
    };
    await show();
    await page.click("#add-card");
    check((await page.locator("#card-0-ip option[value=static]").count()) === 0, "a site's machines can all get one address");
    await page.fill("#card-0-source", "10.1.0.0/16");
    await page.fill("#card-0-network", "prod");
    await page.selectOption("#card-0-ip", "translate");
    await page.fill("#card-0-ip-map", "10.1.0.0/16=10.9.0.0/16, 10.2.0.0/16=10.8.0.0/16");
    await look(page, "mapping-site"); // the language stands behind the dialog
    await save();
    const map = [{ from: "10.1.0.0/16", to: "10.9.0.0/16" }, { from: "10.2.0.0/16", to: "10.8.0.0/16" }];
    const ofSite = await mapping(`sites/${siteId}`);
    check(isDeepStrictEqual(ofSite.nics, [{ source: "10.1.0.0/16", network: "prod", ip: { method: "translate", map } }]), `not what was entered: ${JSON.stringify(ofSite)}`);
    await show();
    check((await page.inputValue("#card-0-ip-map")) === "10.1.0.0/16=10.9.0.0/16, 10.2.0.0/16=10.8.0.0/16", "the dialog does not show what is set");
    await page.locator("#card-0").getByRole("button").last().click();
    await save();
    check((await mapping(`sites/${siteId}`)).nics.length === 0, "the site's mapping is not gone");
});

test("a_disk_is_protected_looked_at_and_left_out_again", async () => {
    const { page } = await open({ storageState: await session() });
    await page.goto(`/machines/${machine.id}?tab=disks`);
    const row = page.locator(`tr[data-device="${process.env.LEEWARD_THIRD_DISK}"]`);
    const act = async (action) => {
        await row.locator(`[data-action=${action}]`).click();
        await page.getByRole("dialog").waitFor();
        await look(page, `disk-${action}`);
        await page.click("#dialog-act");
        await page.getByRole("dialog").waitFor({ state: "detached" });
    };
    await act("add");
    await page.locator(`tr[data-device="${process.env.LEEWARD_THIRD_DISK}"][data-protected=true]`).waitFor();
    await act("resize");
    await act("exclude");
    await page.locator(`tr[data-device="${process.env.LEEWARD_THIRD_DISK}"][data-protected=false]`).waitFor();
});

test("failover_wizard_leads_from_the_timeline_to_a_test_and_its_cleanup", async () => {
    const { page } = await open({ storageState: await session() });
    await page.goto("/failovers/new?machine=00000000-0000-4000-8000-000000000000"); // one that is not there: no other takes its place
    await page.waitForSelector("#machine-gone");
    check((await page.inputValue("#machine")) === "" && (await page.isDisabled("#wizard-next")), "the wizard takes another machine than the one that was chosen");
    await look(page, "failover-gone");
    await page.selectOption("#machine", machine.id);
    await page.waitForSelector("#machine-gone", { state: "detached" });
    check(await page.isEnabled("#wizard-next"), "no other machine can be chosen");
    await page.goto(`/failovers/new?machine=${machine.id}`);
    await page.waitForSelector("#kinds");
    await page.click("#kind-unplanned"); // what replaces the machine is typed out
    await page.click("#wizard-next");
    await page.waitForSelector("#point-choice[data-sequence]");
    await page.click("#wizard-next");
    await page.click("#wizard-next");
    await page.waitForSelector("#precheck[data-passed=true]");
    check(await page.isDisabled("#wizard-next"), "an unplanned failover begins without its machine's name");
    await lookAround(page, "failover-confirm");
    for (let i = 0; i < 3; i++) await page.click("#wizard-back");
    await page.click("#kind-test");
    await page.click("#wizard-next");
    await page.click("#point-timeline");
    await page.waitForSelector("#timeline-range");
    await page.waitForSelector("#point-choice[data-sequence]");
    await lookAround(page, "failover-point");
    await page.click("#wizard-next");
    await page.waitForSelector("#target");
    await lookAround(page, "failover-target");
    await page.click("#wizard-next");
    await page.waitForSelector("#precheck[data-passed=true]");
    await page.click("#wizard-next");
    await page.waitForURL(/\/failovers\/[0-9a-f-]{36}/);
    await page.waitForSelector("#failover[data-state=running] #decision");
    await look(page, "failover-running");
    await page.click("#act-cleanup");
    await page.fill("#notes", "seen by a browser");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#failover[data-state=cleaned]");
});

test("sites_are_made_given_machines_and_vaults_renamed_and_removed", async () => {
    expectComplaint(/status of 409/); // what the hub would refuse
    const { page, context } = await open({ storageState: await session() });
    const ask = async (path) => (await context.request.get(`/api/v1/${path}`)).json();
    const save = async () => {
        await page.click('[role="dialog"] button[type="submit"]');
        await page.getByRole("dialog").waitFor({ state: "detached" });
    };
    const place = async (site) => {
        await page.goto(`/vaults/${vaults.copy.id}`);
        await page.click("#edit-vault");
        await page.locator("#site option", { hasText: site }).waitFor({ state: "attached" });
        await page.selectOption("#site", { label: site });
        await save();
        await page.goto(`/machines/${machine.id}`);
        await page.click("#edit-machine");
        await page.locator("#site option", { hasText: site }).waitFor({ state: "attached" });
        await page.selectOption("#site", { label: site });
        if (site === "pier") await look(page, "machine-settings");
        await save();
    };
    await page.goto("/infrastructure?show=sites");
    await page.click("#add-site");
    await page.waitForSelector("#site-name");
    check(await page.isDisabled('[role="dialog"] button[type="submit"]'), "a site without a name can be made");
    await page.fill("#site-name", "pier");
    await page.fill("#site-description", "by the water");
    await save();
    await place("pier");
    const of = async () => [(await ask(`machines/${machine.id}`)).site_name, (await ask(`vaults/${vaults.copy.id}`)).site_name];
    check(isDeepStrictEqual(await of(), ["pier", "pier"]), `not at the site: ${await of()}`);
    await page.goto("/infrastructure?show=sites&sort=-machines");
    const row = page.locator("tr[data-id]", { hasText: "by the water" });
    await row.getByText("1", { exact: true }).nth(1).waitFor(); // a machine and a vault
    await row.locator("[data-action=edit]").click();
    await page.fill("#site-name", "port");
    await save();
    await row.locator("[data-action=delete]").click();
    await page.waitForSelector('[role="dialog"] .pf-v6-c-alert.pf-m-danger'); // it is used: told before it is asked for
    check(await page.isDisabled('[role="dialog"] button[type="submit"]'), "a site that is used can be removed");
    await look(page, "site-in-use");
    await page.keyboard.press("Escape");
    await place("No site");
    await page.goto("/infrastructure?show=sites");
    await row.locator("[data-action=delete]").click();
    await page.waitForSelector("#precheck[data-passed=true]");
    await save();
    await row.waitFor({ state: "detached" });
    check(isDeepStrictEqual(await of(), [null, null]), `still at a site: ${await of()}`);
});

test("settings_are_changed_and_taken_back_to_their_defaults", async () => {
    const { page, context } = await open({ storageState: await session() });
    await page.goto("/settings");
    await page.fill("#event_keep_days", "45");
    await page.fill("#site_name", "Harbour");
    await page.click("#save-settings");
    await page.waitForSelector(".pf-v6-c-alert.pf-m-success");
    await page.click("#default-event_keep_days");
    check((await page.inputValue("#event_keep_days")) === "", "the field is not empty");
    await page.fill("#site_name", "");
    await accessible(page, "settings with a way back");
    await page.click("#save-settings");
    await page.waitForSelector("#default-event_keep_days", { state: "detached" });
    await page.waitForSelector(".pf-v6-c-alert.pf-m-success");
    const settings = await (await context.request.get("/api/v1/settings")).json();
    check(!("event_keep_days" in settings) && !("site_name" in settings) && settings.etag, `not at their defaults: ${JSON.stringify(settings)}`);
});

test("a_second_person_approves", async () => {
    expectComplaint(/status of 40[13]/); // the request that is held back
    const { page, context } = await open({ storageState: await session() });
    await page.goto("/policies");
    const ask = async (method, path, data, who = context) => {
        const { csrf_token } = await (await who.request.get("/api/v1/session")).json();
        return who.request.fetch(path, { method, data, headers: { "X-CSRF-Token": csrf_token, "If-Match": "*", "Content-Type": method === "PATCH" ? "application/merge-patch+json" : "application/json" } });
    };
    const name = `second-${Date.now()}`;
    const made = await (await ask("POST", "/api/v1/users", { name, role: "admin" })).json();
    check(made.password, `no second person: ${JSON.stringify(made)}`);
    check((await ask("POST", "/api/v1/policies", { name: `kept-${name}`, keep_all_seconds: 86400 })).status() === 201, "no policy");
    await page.goto("/settings");
    await page.check("#four-eyes-retention");
    await page.click("#save-settings");
    await page.waitForSelector(".pf-v6-c-alert.pf-m-success");
    await page.uncheck("#four-eyes-retention");
    await page.click("#save-settings");
    await page.waitForSelector("#to-approvals"); // one person cannot take it back
    await lookAround(page, "settings-held");
    const held = await ask("PATCH", `/api/v1/policies/kept-${name}`, { keep_all_seconds: 3600, keep_minute_seconds: 7200 });
    check(held.status() === 403 && (await held.json()).code === "approval_required", `not held back: ${held.status()}`);
    await page.goto("/approvals");
    const own = page.locator("table tbody tr[data-id]", { hasText: name });
    await own.waitFor();
    check((await own.getByRole("button").count()) === 1, "who asked may approve");
    await look(page, "approvals-pending");
    const other = await open();
    await signIn(other.page, name, made.password);
    await other.page.waitForSelector("#old-password");
    await other.page.fill("#old-password", made.password);
    await other.page.fill("#new-password", password);
    await other.page.fill("#new-password-again", password);
    await other.page.click("#change-password");
    await other.page.waitForSelector("#user-menu");
    await other.page.goto("/approvals");
    await ask("POST", `/api/v1/approvals/${(await held.json()).approval_id}/reject`, {});
    const again = await (await ask("PATCH", `/api/v1/policies/kept-${name}`, { keep_all_seconds: 3600, keep_minute_seconds: 7200 })).json();
    const row = other.page.locator(`tr[data-id="${again.approval_id}"]`);
    await row.getByRole("button").first().click();
    await other.page.waitForSelector("#approval-note");
    await accessible(other.page, "dialog of an approval");
    await other.page.fill("#approval-note", "agreed on the phone");
    await other.page.keyboard.press("Enter");
    await other.page.waitForSelector("#approval-note", { state: "detached" });
    const policy = await (await context.request.get(`/api/v1/policies/kept-${name}`)).json();
    check(policy.keep_all_seconds === 3600, "what was approved was not done");
    await other.page.goto("/settings");
    await other.page.waitForSelector("#four-eyes-retention:checked");
    const closing = await (await ask("PATCH", "/api/v1/settings", { four_eyes: [] })).json();
    check((await ask("POST", `/api/v1/approvals/${closing.approval_id}/approve`, {}, other.context)).ok(), "four eyes cannot be closed by two");
});

test("a_copy_is_read_removed_created_and_takes_over_from_a_lost_vault", async () => {
    expectComplaint(/status of 404/); // points of a copy that has just gone
    const { page, context } = await open({ storageState: await session() });
    const copies = async () => (await (await context.request.get(`/api/v1/machines/${machine.id}/copies`)).json()).items;
    const submit = async () => {
        await page.waitForSelector("#precheck[data-passed=true]");
        await page.click('[role="dialog"] button[type="submit"]');
        await page.getByRole("dialog").waitFor({ state: "detached" });
    };
    const row = page.locator(`#copies tr[data-id="${vaults.copy.id}"]`);
    await page.goto(`/machines/${machine.id}?tab=copies`);
    await row.locator("[data-action=points]").click();
    await page.locator("#copy-points tbody tr").first().getByRole("button").first().click();
    check((await page.locator("#open-write").count()) === 0, "a point of a copy can be opened to be written to");
    await page.click("#dialog-act");
    await page.waitForSelector("#opened code");
    await page.keyboard.press("Escape");
    const { items } = await (await context.request.get(`/api/v1/exports?machine_id=${machine.id}&state=open`)).json();
    const opened = items.find((one) => one.vault_id === vaults.copy.id);
    check(opened, "what was opened is not in the vault that has the copy");
    const { csrf_token } = await (await context.request.get("/api/v1/session")).json();
    check((await context.request.fetch(`/api/v1/exports/${opened.id}?wait=30`, { method: "DELETE", headers: { "X-CSRF-Token": csrf_token } })).ok(), "it cannot be closed");
    check((await row.locator("[data-action=use]").count()) === 0, "a copy can take the place of a vault that is there");
    await row.locator("[data-action=remove]").click();
    await look(page, "copy-remove");
    await submit();
    await page.waitForSelector("#copies .pf-v6-c-empty-state");
    await lookAround(page, "copies-none");
    await page.click("#create-copy");
    await page.waitForSelector("#precheck[data-passed=true]");
    check((await page.inputValue("#copy-vault")) === vaults.copy.id, "the vault that the machine is replicated to is offered, or none is");
    await look(page, "copy-create");
    await submit();
    await row.locator(".pf-m-green").waitFor();
    process.kill(Number(process.env.LEEWARD_OWN_VAULT_PID), "SIGKILL");
    await row.locator("[data-action=use]").waitFor();
    await lookAround(page, "copies-lost");
    await row.locator("[data-action=use]").click();
    await page.waitForSelector("#precheck[data-passed=true]");
    check(await page.isDisabled('[role="dialog"] button[type="submit"]'), "a copy takes over without the machine's name");
    await look(page, "copy-use");
    await page.fill("#typed", machine.name);
    await submit();
    await row.waitFor({ state: "detached" });
    const { vault_id } = await (await context.request.get(`/api/v1/machines/${machine.id}`)).json();
    check(vault_id === vaults.copy.id, "the copy is not the machine's own line");
    check((await copies()).every((one) => one.vault_id === vaults.own.id), `it has a copy of itself: ${JSON.stringify(await copies())}`);
});

/** A vault is lost: what the hub says of it, of jobs and of what happened is English in the API, and in the reader's language on the page. */
test("what_the_hub_says_is_shown_in_the_language_of_the_page", async () => {
    try {
        process.kill(Number(process.env.LEEWARD_OWN_VAULT_PID), "SIGKILL");
    } catch (error) {
        check(error.code === "ESRCH", error.message); // an earlier test lost it
    }
    for (const language of ["zh", "sv"]) {
        const { page, context } = await open({ language, storageState: await session() });
        const api = async (path) => (await context.request.get(`/api/v1/${path}`)).json();
        const textsOf = async (path, rows) => {
            await page.goto(path);
            await page.waitForSelector(rows);
            await settled(page);
            return page.$$eval(rows, (found) => found.map((row) => [row.dataset.id ?? row.id, row.textContent]));
        };

        let vault;
        while ((vault = await api(`vaults/${vaults.own.id}`)).cause_code !== "vault_silent") await page.waitForTimeout(1000);
        const [, lost] = (await textsOf("/infrastructure?show=vaults", "table tbody tr[data-id]")).find(([id]) => id === vault.id);
        check(/\d/.test(lost) && !/silent/.test(lost), `${language}: the vault is "${lost}"`);
        await picture(page, `said-vaults-${language}-light-desktop`);

        const job = await api(`jobs/${(await api("jobs?kind=protect&limit=1")).items[0].id}`);
        const steps = await textsOf(`/jobs/${job.id}`, "main [id^=step-][id$=-title]");
        check(steps.length === job.steps.length, `${language}: ${steps.length} of ${job.steps.length} steps`);
        check(!steps.some(([, text]) => job.steps.some(({ title }) => text.includes(title))), `${language}: steps are ${JSON.stringify(steps)}`);
        await picture(page, `said-job-${language}-light-desktop`);

        const events = new Map((await api("events?limit=500&sort=-seq")).items.map((event) => [String(event.seq), event]));
        const rows = (await textsOf("/events", "table tbody tr[data-id]")).filter(([seq]) => Object.keys(events.get(seq)?.values ?? {}).length > 0);
        check(rows.length > 3, `${language}: ${rows.length} events have values`);
        const english = rows.filter(([seq, text]) => text.includes(events.get(seq).text));
        check(english.length === 0, `${language}: events are ${JSON.stringify(english)}`);
        await picture(page, `said-events-${language}-light-desktop`);
        await textsOf("/alerts?state=firing,acknowledged,resolved", "table tbody tr[data-id]");
        await picture(page, `said-alerts-${language}-light-desktop`);
        await textsOf("/", "main .lw-plain-list li");
        await picture(page, `said-overview-${language}-light-desktop`);
        await textsOf(`/machines/${machine.id}?tab=events`, "main table tbody tr");
        await picture(page, `said-machine-${language}-light-desktop`);
    }
});

await main();
