#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`leeward machine set` for many machines: what it wants to be told first, and what it says of each. The machines are rows that no agent is behind."""
import json
import os
import pty
import signal
import subprocess

from harness import BIN, Site, check, defer, main, start, test, undo, wait_until

PROTECTED = ("m1", "m2", "m3", "m4")


def site_with_machines():
    site = Site("--no-agent", wait=False)
    wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the hub", 90)
    site.load_env()
    wait_until(lambda: site.items("vault", "list"), "the vault", 60)
    site.sql("INSERT INTO machines (id, name, state) SELECT gen_random_uuid(), 'm' || i, CASE WHEN i < 5 THEN 'protected' ELSE 'unprotected' END"
             " FROM generate_series(1, 5) i;"
             "INSERT INTO protections (machine_id, policy_id, vault_id) SELECT m.id, p.id, v.id FROM machines m, policies p, vaults v"
             " WHERE m.name < 'm5' AND p.is_default")
    site.cli("policy", "create", "gold")
    site.cli("site", "create", "pier")
    return site


def have(site):
    """What each machine has: {"m1": ("default", None)}."""
    return {m["name"]: (m["policy_name"], m["site_name"]) for m in site.items("machine", "list")}


def results_of(site, *words):
    """Exit code, and what is said of each machine, in the order in which it is said."""
    result = site.cli_result("machine", "set", *words, "-o", "json")
    return result.returncode, {r["machine"]: r for r in json.loads(result.stdout)["items"]}, result.stderr


def words_of(results):
    return {name: r["result"] for name, r in results.items()}


@test
def nothing_is_changed_before_it_is_clear_how_many_are_meant():
    site = site_with_machines()
    before = have(site)
    for status, words, said in (
            (2, ["--policy", "gold"], "Name machines"),
            (2, ["m1", "--filter", "state=protected", "--policy", "gold"], "not both"),
            (2, ["m1", "m2", "--name", "one"], "--name"),
            (2, ["m1", "m2"], "--policy"),
            (2, ["m1", "m2", "--site", "pier", "--no-site"], "--no-site"),
            (2, ["m1", "m2", "--policy", "gold", "--site", "pier"], "2 machines would get the policy gold and the site pier; say that so many are meant: --confirm 2"),
            (2, ["m1", "m2", "--policy", "gold", "--confirm", "both"], "--confirm"),
            (3, ["m1", "m2", "--policy", "silver", "--confirm", "2"], "silver"),
            (3, ["--filter", "name=absent", "--policy", "gold"], "no machine"),
            (4, ["--filter", "state=protected", "--policy", "gold", "--confirm", "3"], "these are 4 machines"),
            (4, ["m1", "--policy", "gold", "--confirm", "2"], "these are 1 machines")):
        result = site.cli_result("machine", "set", *words)
        check(result.returncode == status and said in result.stderr, f"{words}: exit {result.returncode}: {result.stderr}")
        check(result.stdout == "", f"{words}: {result.stdout}")
    check(have(site) == before, f"something was changed: {have(site)}")


@test
def each_machine_has_a_line_and_one_that_is_refused_costs_no_other():
    site = site_with_machines()
    before = have(site)
    status, results, _ = results_of(site, "m1", "m2", "m5", "--policy", "gold", "--dry-run")
    check(words_of(results) == {"m1": "would-change", "m2": "would-change", "m5": "failed"} and status == 4 and have(site) == before, f"dry run: {status} {results}")
    status, results, said = results_of(site, "m1", "m5", "nobody", "m2", "--policy", "gold", "--site", "pier", "--confirm", "4")
    check(words_of(results) == {"m1": "changed", "m5": "failed", "nobody": "failed", "m2": "changed"}, f"{results}")
    check(results["m5"]["code"] == "refused" and "not protected" in results["m5"]["reason"] and results["m5"]["correction"], f"{results['m5']}")
    check(results["nobody"]["code"] == "not_found", f"{results['nobody']}")
    check(status == 1 and "2 of 4 machines were not changed" in said, f"exit {status}: {said}")
    check(have(site) == {**before, "m1": ("gold", "pier"), "m2": ("gold", "pier")}, f"not as it says: {have(site)}")
    status, results, said = results_of(site, "--filter", "state=protected", "--policy", "gold", "--confirm", "4")
    check(words_of(results) == {"m1": "unchanged", "m2": "unchanged", "m3": "changed", "m4": "changed"} and status == 0 and said == "", f"{status} {results} {said}")
    lines = site.cli_result("machine", "set", "m1", "m5", "--policy", "default", "--confirm", "2").stdout.splitlines()
    check(len(lines) == 3 and lines[1].split() == ["m1", "changed", "-"] and "not protected" in lines[2], f"{lines}")
    status, results, _ = results_of(site, "nobody", "no-one", "--no-site", "--confirm", "2")
    check(status == 3 and words_of(results) == {"nobody": "failed", "no-one": "failed"}, f"{status} {results}")
    status, results, _ = results_of(site, "m1", "m2", "--no-site", "--confirm", "2")
    check(status == 0 and have(site)["m1"] == ("default", None) and have(site)["m2"] == ("gold", None), f"{status} {have(site)}")


@test
def what_a_second_person_must_approve_is_held_for_each():
    site = site_with_machines()
    site.cli("policy", "create", "short", "--keep-all", "1h", "--keep-minutely", "2h", "--keep-hourly", "0", "--keep-daily", "0")
    site.cli("settings", "set", "four_eyes", '["retention"]')
    status, results, _ = results_of(site, "m1", "m2", "--policy", "short", "--confirm", "2")
    check(status == 4 and words_of(results) == {"m1": "held", "m2": "held"}, f"{status} {results}")
    check(all("approval show" in r["correction"] for r in results.values()), f"{results}")
    check(len(site.items("approval", "list")) == 2, "not one request for each")


@test
def a_terminal_is_asked():
    site = site_with_machines()
    for answer, status, policy in (("n", 1, "default"), ("y", 0, "gold")):
        terminal, own = pty.openpty()
        process = subprocess.Popen([os.path.join(BIN, "leeward"), "machine", "set", "m1", "m2", "--policy", "gold"], env=site.env, stdin=own,
                                   stdout=subprocess.PIPE, stderr=own, text=True)
        entry = defer(process.kill)
        os.close(own)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(terminal, 1000)
        check(b"2 machines get the policy gold." in said, f"{said}")
        os.write(terminal, answer.encode() + b"\n")
        process.communicate(timeout=60)
        undo(entry)
        os.close(terminal)
        check(process.returncode == status and have(site)["m2"][0] == policy, f"{answer}: exit {process.returncode}, {have(site)}")


@test
def a_signal_ends_it_between_two_machines_and_all_have_their_line():
    site = site_with_machines()
    # Somebody else holds the row of m2: its change waits.
    holder = start(["psql", "-X", "-q", "-h", site.postgres_socket(), "-U", "leeward", "-d", "leeward", "-v", "ON_ERROR_STOP=1", "-c",
                    "BEGIN; UPDATE machines SET hostname = 'held' WHERE name = 'm2'; SELECT pg_sleep(600)"])

    def waiting():
        return int(site.sql("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    wait_until(lambda: int(site.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND wait_event = 'PgSleep'")), "the row to be held", 60)
    process = subprocess.Popen([os.path.join(BIN, "leeward"), "machine", "set", *PROTECTED, "--policy", "gold", "--confirm", "4", "-o", "json"], env=site.env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    entry = defer(process.kill)
    wait_until(waiting, "the change of m2 to wait", 60)
    process.send_signal(signal.SIGINT)
    holder.kill()
    site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    out, said = process.communicate(timeout=60)
    undo(entry)
    results = {r["machine"]: r for r in json.loads(out)["items"]}
    check(words_of(results) == {"m1": "changed", "m2": "changed", "m3": "skipped", "m4": "skipped"}, f"{results}")
    check(process.returncode == 1 and "2 of 4" in said, f"exit {process.returncode}: {said}")
    check([have(site)[name][0] for name in PROTECTED] == ["gold", "gold", "default", "default"], f"not as it says: {have(site)}")


if __name__ == "__main__":
    main()
