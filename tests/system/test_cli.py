#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The `leeward` command as scripts see it, and `leeward up`: what it starts, heals, ends and leaves behind."""
import json
import os
import re
import signal
import ssl
import subprocess
import urllib.error
import urllib.request

from harness import BIN, MIB, Disk, Site, check, children_of, command_line, defer, fresh, image_of, main, run, test, undo, wait_until

ROLES = ("hub", "vault", "node", "agent")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def tree_of(pid):
    found = []
    for child in children_of(pid):
        found += [child, *tree_of(child)]
    return found


@test
def up_heals_what_is_killed_and_keeps_its_ports():
    site = Site()
    for role in ROLES:
        killed = site.kill(role)
        wait_until(lambda: site.pid_of(role) != killed, f"leeward-{role} to be started again", 20)
    site.wait_ready()


@test
def up_that_is_killed_leaves_no_process_behind():
    site = Site()
    processes = tree_of(site.process.pid)
    check(len(processes) > 6, f"only {len(processes)} processes run: the private PostgreSQL is missing")
    os.kill(site.process.pid, signal.SIGKILL)
    site.process.wait()
    wait_until(lambda: not any(alive(p) for p in processes), "all children of a killed `leeward up` to end", 40)
    site.start()
    check(len(site.items("machine", "list")) == 1, "the machine is not known after a restart")


@test
def up_ends_at_a_signal_with_everything_it_started():
    site = Site()
    processes = tree_of(site.process.pid)
    status = site.stop()
    check(status == 0, f"`leeward up` ended with {status}: {site.last_log()}")
    left = [command_line(p)[0] for p in processes if alive(p)]
    check(not left, f"still running: {left}")
    check(not any(name.endswith(".token") for name in os.listdir(site.data)), "enrolment tokens were left in the folder")


@test
def second_up_in_one_folder_is_refused():
    site = Site()
    second = subprocess.run([os.path.join(BIN, "leeward"), "up", "--data", site.data, "--port-base", str(site.port_base)],
                            capture_output=True, text=True, timeout=30)
    check(second.returncode == 4, f"exit {second.returncode}: {second.stderr}")
    check("--data" in second.stderr, f"no way out is named: {second.stderr}")
    site.wait_ready()


@test
def port_that_is_taken_ends_up_with_the_reason():
    site = Site("--no-agent", wait=False)
    wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the first hub", 60)
    second = subprocess.run([os.path.join(BIN, "leeward"), "up", "--data", fresh("other"), "--port-base", str(site.port_base), "--no-agent"],
                            capture_output=True, text=True, timeout=60)
    check(second.returncode != 0, "two hubs on one port")
    check("in use" in second.stderr, f"the reason is not named: {second.stderr[-400:]}")


@test
def exit_codes_and_corrections():
    site = Site()
    for status, command, words in (
            (0, ["status"], ""),
            (2, ["machine", "nonsense"], "--help"),
            (2, ["policy", "create", "x", "--interval", "soon"], "soon"),
            (2, ["policy", "create", "x", "--interval", "1ms"], "interval_seconds"),
            (2, ["job", "show", "1"], "job_id: must be"),
            (2, ["channel", "create", "x"], "--help"),
            (2, ["point", "list", site.machine()["name"], "--kind", "crash,wrong"], '"wrong"'),
            (2, ["settings", "set", "colour", "red"], "settings show"),
            (2, ["settings", "set", "event_keep_days", "soon"], "event_keep_days: must be integer"),
            (2, ["settings", "set", "event_keep_days", "9999"], "event_keep_days: must be at most 3650"),
            (2, ["settings", "set", "four_eyes", "erase"], "four_eyes: must be array"),
            (2, ["job", "list", "--limit", "0"], "--limit"),
            (2, ["settings", "reset", "colour"], "settings show"),
            (2, ["machine", "list", "--filter", "colour=red"], "known are name, state,"),
            (2, ["machine", "list", "--filter", "protected"], "NAME=VALUE"),
            (2, ["machine", "list", "--filter", "colour=red"], "colour"),
            (2, ["policy", "list", "--sort", "colour"], "cannot be sorted"),
            (3, ["machine", "show", "nobody"], "no machine nobody"),
            (3, ["point", "open", f"{site.machine()['name']}@latest"], "point list"),
            (4, ["policy", "delete", "default"], "default")):
        result = site.cli_result(*command)
        check(result.returncode == status, f"{command}: exit {result.returncode} instead of {status}: {result.stderr}")
        check(words in result.stderr, f"{command} does not say \"{words}\": {result.stderr}")
        check(status == 0 or not result.stdout.strip().startswith("leeward:"), f"{command} puts errors on standard output")
    # Lists are chosen and sorted as the API can; an item is said in words, whole with -o wide.
    name = site.machine()["name"]
    site.cli("policy", "create", "aaa")
    check([p["name"] for p in site.items("policy", "list", "--sort", "-name")] == ["default", "aaa"], "--sort -name")
    check([p["name"] for p in site.items("policy", "list", "--sort", "name", "--filter", "name=aa")] == ["aaa"], "--filter name=aa")
    check([e["action"] for e in site.items("audit", "list", "--sort", "seq", "--limit", "1")] == ["createEnrolmentToken"], "the oldest entry")
    check(all(d["present"] for d in site.items("disk", "list", name, "--filter", "present=true")), "--filter present=true")
    check("there are more than these 2" in site.cli_result("event", "list", "--limit", "2").stderr, "a list that is cut does not say so")
    check("there are more" not in site.cli_result("event", "list", "--limit", "100000").stderr, "a list that is whole says that it is cut")
    shown = {form: site.cli_result("machine", "show", name, "-o", form).stdout for form in ("table", "wide")}
    check("\nlast seen " in shown["table"] and "etag" not in shown["table"] and not any("_" in line[:20] for line in shown["table"].splitlines()), shown["table"])
    check(set(site.cli("machine", "show", name)) <= {line.split()[0].rstrip(":") for line in shown["wide"].splitlines()}, f"-o wide lacks members: {shown['wide']}")
    shown = {line.split()[0]: line for line in site.cli_result("settings", "show").stdout.splitlines()}
    check("session_idle_seconds" in shown, "settings that nobody set are not shown")
    check("1 to 3650" in shown["event_keep_days"] and "list of erase, " in shown["four_eyes"] and "etag" not in shown, f"not what each may be: {shown}")
    check(site.cli_result("overview").stdout.startswith("machines"), "the overview begins with something else")


@test
def token_with_few_rights_can_do_just_that():
    site = Site("--no-agent", wait=False)
    wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the hub", 60)
    site.load_env()
    made = site.cli_result("token", "create", "reader", "--role", "viewer", "--expires", "1h")
    token = made.stdout.strip()
    check(re.fullmatch(r"lwt_[A-Za-z0-9_-]{49}", token), f"not a token alone on its line: {made.stdout}")
    admin = site.env["LEEWARD_TOKEN"]
    site.env["LEEWARD_TOKEN"] = token
    check(site.cli_result("policy", "list").returncode == 0, "a viewer cannot read")
    refused = site.cli_result("policy", "create", "mine")
    check(refused.returncode == 4 and "policies:write" in refused.stderr, f"{refused.returncode}: {refused.stderr}")
    site.env["LEEWARD_TOKEN"] = admin
    site.cli_result("token", "revoke", "reader")
    site.env["LEEWARD_TOKEN"] = token
    check(site.cli_result("policy", "list").returncode == 4, "a revoked token still reads")
    with open(site.log, errors="replace") as f:
        check(token not in f.read(), "a token is in the log")


@test
def pipeline_makes_a_point_and_takes_files_out_of_it():
    disk = Disk(64 * MIB)
    disk.fill_random(300)
    site = Site()
    site.protect(disk)
    name = site.machine()["name"]
    os.sync()
    before = image_of(disk.device)
    made = site.cli("point", "create", name, "--tag", "before-1742")
    check(made["tag"] == "before-1742", f"the point has the tag {made['tag']}")
    disk.fill_random(300, seed=9)
    uri = site.cli_result("point", "open", f"{name}@before-1742").stdout.strip()
    check(re.fullmatch(r"nbd\+unix://\S+", uri), f"not a URI alone on its line: {uri}")
    copy = fresh("copy.img")
    run("nbdcopy", uri, copy)
    check(image_of(copy) == before, "the tagged point is not what the disk held then")
    closed = site.cli_result("point", "close", uri)
    check(closed.returncode == 0, closed.stderr)
    check(not site.items("point", "opened"), "the point is still open")


    # A dry run is refused exactly as the work would be, and does nothing.
    points = len(site.items("point", "list", name))
    asked = site.cli_result("machine", "unprotect", name, "--dry-run")
    check(asked.returncode == 0 and "nothing was done" in asked.stdout, f"{asked.returncode}: {asked.stdout} {asked.stderr}")
    check(site.machine()["state"] == "protected", "a dry run took the protection away")
    check(site.cli("machine", "resync", name, "--dry-run") == {"dry_run": True}, "a dry run says something else in JSON")
    refused = site.cli_result("machine", "erase", name, "--dry-run")
    check(refused.returncode == 4 and "protected" in refused.stderr, f"{refused.returncode}: {refused.stderr}")
    tried = site.cli_result("token", "create", "x", "--dry-run")
    check(tried.returncode == 0 and "lwt_" not in tried.stdout, f"{tried.returncode}: {tried.stdout} {tried.stderr}")
    check("x" not in [t["name"] for t in site.items("token", "list")], "a dry run made a token")
    lacking = site.cli_result("approval", "reject", "11111111-1111-4111-8111-111111111111", "--dry-run")
    check(lacking.returncode != 0 and "no dry run" in lacking.stderr, f"{lacking.returncode}: {lacking.stderr}")
    check(len(site.items("point", "list", name)) >= points, "points went")
    check(site.cli("overview")["machines"]["total"] == 1, "the overview counts wrong")
    history = site.cli("machine", "history", name, "--since", "1h")
    check(history["count"] == len(history["points"]), f"the history's columns differ in length: {history}")


@test
def events_go_on_where_a_client_was():
    site = Site()
    site.cli("policy", "create", "one")
    tail = subprocess.run([os.path.join(BIN, "leeward"), "event", "tail", "--from", "0", "--count", "2", "-o", "json"], env=site.env,
                          capture_output=True, text=True, timeout=30)
    events = [json.loads(line) for line in tail.stdout.splitlines()]
    check(len(events) == 2, f"{len(events)} events: {tail.stderr}")
    again = subprocess.run([os.path.join(BIN, "leeward"), "event", "tail", "--from", str(events[0]["seq"]), "--count", "1", "-o", "json"],
                           env=site.env, capture_output=True, text=True, timeout=30)
    check(json.loads(again.stdout)["seq"] == events[1]["seq"], "the stream did not go on after the event that was named")


def ask(site, path, token=True):
    context = ssl.create_default_context(cafile=site.env["LEEWARD_CA"])
    request = urllib.request.Request(site.env["LEEWARD_URL"] + path)
    if token:
        request.add_header("Authorization", "Bearer " + site.env["LEEWARD_TOKEN"])
    try:
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


@test
def probes_and_metrics_answer_as_operators_expect():
    site = Site()
    check(ask(site, "/healthz", token=False)[0] == 200, "/healthz needs something")
    status, body = ask(site, "/readyz?verbose", token=False)
    check(status == 200 and all(c["ok"] for c in json.loads(body)["checks"]), body)
    check(ask(site, "/metrics", token=False)[0] == 401, "/metrics is open to strangers")
    status, text = ask(site, "/metrics")
    check(status == 200 and "leeward_machine_online" in text, text[:300])
    families = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    check(len(families) == len(set(f for f, _ in families)), "a family of metrics stands twice")
    for name, kind in families:
        check(name.startswith("leeward_"), name)
        check((kind == "counter") == name.endswith("_total"), f"{name} is a {kind}")
    # Without its database the hub is alive and not ready, and is ready again by itself.
    os.kill(site.postgres_pid(), signal.SIGSTOP)
    resume = defer(os.kill, site.postgres_pid(), signal.SIGCONT)  # before the site is stopped, whatever happens
    check(ask(site, "/healthz", token=False)[0] == 200, "/healthz waits for the database")  # which answers nobody meanwhile
    undo(resume)
    wait_until(lambda: ask(site, "/readyz", token=False)[0] == 200, "the hub to be ready again", 30)


if __name__ == "__main__":
    main()
