#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Failovers with the adapters disk and command: tests beside a running source, unplanned ones instead of it, other points, rollback and
commit; what is refused; targets that fail; and a hub that is killed at every step of every job."""
import json
import os
import stat

from harness import MIB, CliError, Disk, Site, check, fresh, image_of, main, note, run, test, wait_until

# Keeps one file per replica, and a line for each call. `fail` in its folder makes the verb in it fail.
PROGRAM = """#!/usr/bin/env python3
import json, os, subprocess, sys
verb, call = sys.argv[1], json.load(sys.stdin)
folder = os.path.dirname(os.path.abspath(__file__))
spec = call["spec"]
with open(os.path.join(folder, "calls"), "a") as f:
    f.write(verb + " " + spec["failover_id"] + "\\n")
try:
    fail = open(os.path.join(folder, "fail")).read()
except FileNotFoundError:
    fail = ""
if fail == verb:
    sys.exit("the rack is on fire")
path = os.path.join(folder, "replica-" + spec["failover_id"])
if verb == "start":
    size = subprocess.run(["nbdinfo", "--size", spec["disks"][0]["uri"]], capture_output=True, text=True, check=True).stdout
    with open(path, "w") as f:
        json.dump(spec, f)
    print(json.dumps({"name": "replica of " + spec["machine"]["name"], "size": int(size), "verdict": "passed",
                      "verdict_text": "it answers"}))
elif verb == "stop" and os.path.exists(path):
    os.unlink(path)
"""


class Target:
    def __init__(self, site, name="rack"):
        self.folder = fresh("target")
        os.mkdir(self.folder)
        self.program = os.path.join(self.folder, "program")
        with open(self.program, "w") as f:
            f.write(PROGRAM)
        os.chmod(self.program, stat.S_IRWXU)
        self.name = name
        site.cli("target", "create", name, "command", "--config", json.dumps({"program": self.program, "timeout_seconds": 120}))

    def replicas(self):
        return [f.removeprefix("replica-") for f in os.listdir(self.folder) if f.startswith("replica-")]

    def calls(self):
        with open(os.path.join(self.folder, "calls")) as f:
            return [line.split()[0] for line in f]

    def fail(self, verb):
        path = os.path.join(self.folder, "fail")
        if verb:
            with open(path, "w") as f:
                f.write(verb)
        else:
            os.unlink(path)


def protected_site(**options):
    disk = Disk(64 * MIB)
    disk.fill_random(7)
    site = Site(**options)
    site.protect(disk)
    return site, disk, site.settled_point()


def refused(site, *command):
    try:
        site.cli(*command)
    except CliError as refusal:
        return refusal.text
    raise AssertionError(f"{command} was not refused")


def write(uri, byte):
    run("qemu-io", "-f", "raw", "-c", f"write -P {byte} 0 1M", "-c", "flush", uri)


def image_of_uri(uri):
    copy = fresh("replica.img")
    run("nbdcopy", uri, copy)
    return image_of(copy)


def uri_of(site, failover):
    return next(b for b in site.items("branch", "list") if b["id"] == failover["branch_id"])["uri"]


def state(site):
    return site.machine()["state"]


@test
def a_test_runs_beside_its_source_and_is_cleaned_up():
    site, disk, point = protected_site()
    before = image_of(disk.device)
    drill = site.cli("failover", "test", f"{site.machine()['name']}@{point['sequence']}")
    check(drill["state"] == "running" and drill["kind"] == "test" and drill["sequence"] == point["sequence"], f"{drill}")
    check(drill["rto_seconds"] > 0 and drill["verdict"] == "unknown", f"{drill}")
    note(f"RTO without a guest: {drill['rto_seconds']:.2f} s")
    uri = uri_of(site, drill)
    check(image_of_uri(uri) == before, "the replica's disk is not what the point held")
    write(uri, 7)
    check(state(site) == "protected", f"the machine is {state(site)} during a test")
    disk.fill_random(8)
    later = site.settled_point()
    check(image_of(disk.device) == image_of_uri(site.open(later["sequence"]).uri()), "replication stood still during a test")
    check("cleanup" in refused(site, "failover", "rollback", drill["id"]), "a test was rolled back")
    check("replica runs" in refused(site, "branch", "discard", drill["branch_id"]), "the branch under a replica was discarded")
    # Another one at the same time; then a machine's name is not enough.
    second = site.cli("failover", "test", site.machine()["name"])
    check("has 2" in refused(site, "failover", "cleanup", site.machine()["name"]), "the name was taken for one of two")
    site.cli("failover", "cleanup", second["id"])
    site.cli("failover", "cleanup", site.machine()["name"], "--outcome", "passed", "--notes", "as it should be")
    over = site.cli("failover", "show", drill["id"])
    check(over["state"] == "cleaned" and over["outcome"] == "passed" and over["notes"] == "as it should be", f"{over}")
    check(not site.items("branch", "list"), "a cleaned test left a branch")
    check("over" in refused(site, "failover", "cleanup", drill["id"]), "cleaned twice")


@test
def an_unplanned_failover_fences_changes_point_rolls_back_and_commits():
    site, disk, first = protected_site()
    target = Target(site)
    name = site.machine()["name"]
    before = image_of(disk.device)
    disk.fill_random(9)
    site.settled_point()
    after = image_of(disk.device)
    failed = site.cli("failover", "unplanned", name, "--target", "rack", "--cpus", "2", "--memory-mib", "256")
    check(failed["state"] == "running" and failed["verdict"] == "passed", f"{failed}")
    check(failed["replica"]["size"] == 64 * MIB and target.replicas() == [failed["id"]], f"{failed['replica']}")
    with open(os.path.join(target.folder, "replica-" + failed["id"])) as f:
        spec = json.load(f)
    check(spec["cpus"] == 2 and spec["memory_bytes"] == 256 * MIB and not spec["isolated"], f"{spec}")
    check(state(site) == "failed_over", f"the machine is {state(site)}")
    check(image_of_uri(uri_of(site, failed)) == after, "not the latest point")

    # The source is fenced: it may write what it likes, nothing more arrives.
    wait_until(lambda: site.machine()["agent_state"] != "protected", "the source to stop", 60)
    last = site.latest()["sequence"]
    disk.fill_random(10)
    os.sync()
    check("not protected" in refused(site, "point", "create", name), "a fenced source made a point")
    check("not possible" in refused(site, "failover", "test", name), "a test of a machine that has failed over")
    check("not possible" in refused(site, "failover", "unplanned", name), "a second failover was begun")

    # The other point, with nothing of what the replica wrote on the first one.
    write(uri_of(site, failed), 66)
    site.cli("failover", "change-point", name, first["sequence"])
    changed = site.cli("failover", "show", failed["id"])
    check(changed["state"] == "running" and changed["sequence"] == first["sequence"], f"{changed}")
    check(image_of_uri(uri_of(site, changed)) == before, "not the point that was asked for")
    check(target.calls() == ["check", "start", "stop", "start"], f"{target.calls()}")
    check(site.latest()["sequence"] == last, "the fenced source's points went on")

    site.cli("failover", "rollback", name)
    check(site.cli("failover", "show", failed["id"])["state"] == "rolled_back" and not target.replicas(), "not rolled back")
    wait_until(lambda: state(site) == "protected", "the source to be protected again", 120)
    again = site.settled_point()
    check(image_of(disk.device) == image_of_uri(site.open(again["sequence"]).uri()), "after the rollback the point is not the disk")

    final = site.cli("failover", "unplanned", name, "--target", "rack")
    site.cli("failover", "commit", name)
    check(state(site) == "committed" and target.replicas() == [final["id"]], f"{state(site)} {target.replicas()}")
    check("over" in refused(site, "failover", "rollback", final["id"]), "rolled back after the commit")
    check("replica runs" in refused(site, "branch", "discard", final["branch_id"]), "the committed branch was discarded")


@test
def mistakes_are_refused_before_anything_starts():
    disk = Disk(64 * MIB)
    site = Site()
    name = site.machine()["name"]
    check("point" in refused(site, "failover", "test", name), "a machine without protection")
    site.protect(disk)
    point = site.settled_point()
    target = Target(site)
    check("no point 99999" in refused(site, "failover", "test", f"{name}@99999"), "a point that is not there")
    check("nowhere" in refused(site, "failover", "test", name, "--target", "nowhere"), "a target that is not there")
    check("serial" in refused(site, "failover", "test", name, "--boot-serial", "login:"), "a serial line of nothing")
    check("absolute" in refused(site, "target", "create", "bad", "command", "--config", '{"program": "x"}'), "a relative path")
    check("does not know" in refused(site, "target", "create", "bad", "disk", "--config", '{"x": 1}'), "an unknown member")
    target.fail("check")
    check("rack is on fire" in refused(site, "failover", "unplanned", name, "--target", "rack"), "a target that cannot take it")
    check(state(site) == "protected" and not site.items("failover", "list"), "something began")
    # It cannot start it: all is as it was.
    target.fail("start")
    check("rack is on fire" in refused(site, "failover", "unplanned", name, "--target", "rack"), "a replica that does not start")
    wait_until(lambda: [f["state"] for f in site.items("failover", "list")] == ["failed"], "the failure to be cleared away", 60)
    wait_until(lambda: state(site) == "protected" and not site.items("branch", "list"), "the source to be itself again", 120)
    check(site.settled_point()["sequence"] > point["sequence"], "points do not go on after a failed failover")
    # Nothing listens there: a verdict, not an error.
    drill = site.cli("failover", "test", name, "--boot-port", "127.0.0.1:1", "--boot-timeout", "1s")
    check(drill["state"] == "running" and drill["verdict"] == "failed" and "did not answer" in drill["verdict_text"], f"{drill}")
    site.cli("failover", "cleanup", drill["id"], "--outcome", "failed")


if __name__ == "__main__":
    main()
