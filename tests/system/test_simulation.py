#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A simulated fleet: real certificates, the real protocol, marked everywhere, never mixed with real machines, gone when it ends. And what a hub
lets in of it at a time when it comes back from a crash."""
import datetime
import os
import signal
import subprocess
import time

from harness import BIN, MIB, Disk, Site, check, fresh, main, note, start, test, wait_until
from node_site import lines_of

MACHINES = 60
PER_SEC = 5


def listed(site, what, *options):
    return site.items(what, "list", *options)


def simulated(site):
    return [m for m in listed(site, "machine") if m["simulated"]]


def wait_hub(site):
    wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the hub", 60)
    site.load_env()


@test
def fleet_of_up_is_marked_protected_and_makes_points():
    site = Site("--no-agent", "--simulate", str(MACHINES), wait=False)
    wait_hub(site)
    wait_until(lambda: sum(m["online"] for m in simulated(site)) == MACHINES, "all simulated machines to be online", 120, 0.5)
    # 24 of 25 are protected; of these a few are silent, broken or slow by design.
    wait_until(lambda: sum(m["state"] == "protected" for m in simulated(site)) >= MACHINES * 3 // 4, "most to be protected", 180, 0.5)
    machines = simulated(site)
    check(len(machines) == len(listed(site, "machine")), "a machine that is not marked as simulated")
    check(all(m["name"].startswith("sim-") and m["agent_software"].startswith("leeward-fleet") for m in machines), "names do not tell")
    check(sum(m["state"] == "unprotected" for m in machines) == MACHINES // 25, "none is left to be protected by hand")
    nodes, vaults = listed(site, "node"), listed(site, "vault")
    marked = {n["name"] for n in nodes + vaults if n["simulated"]}
    check(len(marked) == 4 and all(n.startswith("sim-") for n in marked), f"marked are {marked}")
    check(all(m["vault_name"] in marked and m["node_name"] in marked for m in machines if m["state"] == "protected"),
          "a simulated machine is placed on a real node or vault")
    well = next(m for m in machines if m["state"] == "protected" and m["health"] == "healthy" and m["rpo_seconds"] is not None)
    points = site.items("point", "list", well["name"], "--all")
    check(len(points) > 150, f"only {len(points)} points: the past is missing")
    made = site.cli("point", "create", well["name"], "--tag", "before")
    check(made["tag"] == "before", f"the point has the tag {made['tag']}")
    opened = site.cli_result("point", "open", f"{well['name']}@before")
    check(opened.returncode == 4 and "simulated" in opened.stderr, f"a point without data was opened: {opened.returncode} {opened.stderr}")
    check(site.stop() == 0, f"`leeward up` ended badly: {site.last_log()}")
    site.start(wait=False)
    wait_hub(site)
    wait_until(lambda: len(simulated(site)) == MACHINES, "the fleet to come again", 120, 0.5)


def logged_at(line):
    return datetime.datetime.fromisoformat(line["logged_at"].replace("Z", "+00:00")).timestamp()


@test
def sessions_come_back_in_turn_when_the_hub_was_killed():
    """The bound holds on a hub of any speed: one that is slower lets in fewer. A second's worth may come at once, the others one after another."""
    site = Site("--no-agent", "--simulate", str(MACHINES), wait=False, daemon_options={"hub": ["--sessions-per-second", str(PER_SEC)]})
    wait_hub(site)
    wait_until(lambda: sum(m["online"] for m in simulated(site)) == MACHINES, "all simulated machines to be online", 180, 0.5)
    hub = site.kill("hub")
    killed_at = time.time()
    wait_until(lambda: site.pid_of("hub") not in (None, hub), "the hub to be started again", 60)

    def back():
        return [line for line in lines_of(site.log, "session_up") if line.get("role") == "agent" and logged_at(line) > killed_at]
    # Of a hundred simulated machines two fall silent for a while, by design.
    enough = MACHINES * 9 // 10
    wait_until(lambda: len({line["peer"] for line in back()}) >= enough, "the sessions to be back", 180, 0.5)
    hub_ready = [line for line in lines_of(site.log, "ready") if line.get("daemon") == "leeward-hub"][-1]
    seconds = max(logged_at(line) for line in back()) - logged_at(hub_ready)
    note(f"{len(back())} sessions came back within {seconds:.1f} s of the hub")
    check(seconds >= (enough - PER_SEC) / PER_SEC, f"{len(back())} sessions were let in within {seconds:.1f} s at {PER_SEC} per second")
    wait_until(lambda: sum(m["online"] for m in simulated(site)) >= enough, "the machines to count as online", 60, 0.5)


@test
def fleet_beside_a_real_machine_leaves_that_alone_and_goes():
    disk = Disk(24 * MIB)
    site = Site()
    log = fresh("simulate.log")
    fleet = start([os.path.join(BIN, "leeward"), "simulate", "8", "--control", f"127.0.0.1:{site.port_base + 1}"], log=log, env=site.env)
    wait_until(lambda: sum(m["online"] for m in simulated(site)) == 8, "the fleet to be online", 60, 0.3)
    site.protect(disk)
    real = site.machine()
    check(not real["node_name"].startswith("sim-") and not real["vault_name"].startswith("sim-"),
          f"a real machine is placed on {real['node_name']} and {real['vault_name']}")
    fleet.send_signal(signal.SIGTERM)
    check(fleet.wait(60) == 0, f"`leeward simulate` ended with {fleet.returncode}: {open(log).read()[-400:]}")
    left = [p["name"] for what in ("machine", "node", "vault", "site", "policy") for p in listed(site, what) if p["name"].startswith("sim-")]
    check(not left, f"left behind: {left}")
    check(site.machine()["state"] == "protected", "the real machine is not protected any more")


@test
def fleet_that_was_killed_is_removed_by_one_command():
    site = Site("--no-agent", wait=False)
    wait_hub(site)
    fleet = start([os.path.join(BIN, "leeward"), "simulate", "5", "--no-protect", "--control", f"127.0.0.1:{site.port_base + 1}"],
                  log=fresh("simulate.log"), env=site.env)
    wait_until(lambda: len(simulated(site)) == 5, "the fleet to enrol", 60, 0.3)
    fleet.kill()
    fleet.wait()
    wait_until(lambda: not any(m["online"] for m in simulated(site)), "the fleet to be gone with its parent", 60, 0.3)
    check(site.cli("simulate", "remove")["machines"] == 5, "not all were removed")
    check(not simulated(site), "simulated machines are left")


@test
def number_of_machines_is_checked_before_anything_is_made():
    for words in (["up", "--simulate", "0", "--data", fresh("none")], ["up", "--simulate", "many", "--data", fresh("none2")]):
        result = subprocess.run([os.path.join(BIN, "leeward"), *words], capture_output=True, text=True, timeout=30)
        check(result.returncode == 2 and "number of machines" in result.stderr, f"exit {result.returncode}: {result.stderr}")
        check(not os.path.exists(words[4]), "a folder was made")


if __name__ == "__main__":
    main()
