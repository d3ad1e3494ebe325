#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hub is killed in each step of jobs about disks, keys, nodes and groups (test_job_steps.py has the others), with the step's work done and not yet committed; the job goes on and ends well.

A trigger of the test's own holds the transaction of each step still, once; then the hub is killed, and the next one must do that step
again. That a step was held is kept in a sequence, whose value does not come back with the transaction.

Every kind of job that the hub's sources define is in one of the tables below, or a test fails.
"""
import glob
import os
import re
import signal
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from api_client import Api  # noqa: E402
from node_site import Node  # noqa: E402
from harness import (BIN, ROOT, MIB, Disk, Failure, Site, check, children_of, command_line, defer, free_port_base, fresh, main, note, run, start,  # noqa: E402
                     test, wait_until)

SLEEPS = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
# `leeward up` waits longer before each restart of a daemon that does not live for long, and here it is to die dozens of times.
AT_ONCE = """
import ctypes, signal, subprocess, sys
while True:
    daemon = subprocess.Popen(sys.argv[1:], preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGTERM))
    signal.signal(signal.SIGTERM, lambda *_: daemon.terminate())
    if daemon.wait() != -signal.SIGKILL:
        sys.exit(daemon.returncode)
"""


def kinds_in_the_sources():
    """What hub/jobs defines, by the name that the jobs carry."""
    found = []
    for path in glob.glob(os.path.join(ROOT, "hub", "jobs", "*.c")):
        with open(path) as f:
            text = f.read()
        names = re.findall(r"const struct job_kind job_kind_\w+ = \{\s*\.name = \"(\w+)\"", text)
        check(len(names) == len(re.findall(r"^const struct job_kind job_kind_", text, re.M)), f"{path}: a kind without a name")
        found += names
    check(len(set(found)) == len(found) > 20, f"kinds of jobs: {sorted(found)}")
    return set(found)


class Worker:
    """A site with a protected disk whose jobs can be held in the middle of a step."""

    def __init__(self):
        self.disk, self.second = Disk(48 * MIB, name="first"), Disk(16 * MIB, name="second")
        self.disk.make_fs("ext4")
        self.second.fill_random(50)
        again = fresh("at_once.py")
        with open(again, "w") as f:
            f.write(AT_ONCE)
        ports = free_port_base(2)
        self.group_addresses = [f"127.0.0.1:{ports + i}" for i in range(2)]
        self.site = Site(daemon_options={"agent": self.group_options(0)},
                         daemon_starters={"hub": f"{sys.executable} '{again}'"})
        self.api = Api(self.site.env)
        self.machine = self.site.machine()["name"]
        self.path = f"/machines/{self.machine}"
        self.serial = 0
        self.killed_in = {}
        self.site.sql("""
            CREATE TABLE held (kind text);
            CREATE SEQUENCE held_up_to;
            CREATE FUNCTION hold_still() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF EXISTS (SELECT 1 FROM held h JOIN jobs j ON j.kind = h.kind WHERE j.id = NEW.job_id)
                    AND (SELECT last_value FROM held_up_to) < NEW.ordinal + 2
                THEN PERFORM setval('held_up_to', NEW.ordinal + 2), pg_sleep(300); END IF; RETURN NEW; END $$;
            CREATE TRIGGER hold_still BEFORE UPDATE ON job_steps FOR EACH ROW WHEN (NEW.status = 'succeeded')
                EXECUTE FUNCTION hold_still()""")

    def group_options(self, i):
        return ["--group-listen", self.group_addresses[i], "--group-advertise", self.group_addresses[i]]

    def second_machine(self):
        """With an agent of its own and a protected disk, for a group."""
        data, instance = fresh("member"), self.site.instance + "-member"
        disk = Disk(8 * MIB, name="member")
        disk.fill_random(20)
        token = self.site.cli("enrol-token", "create", "--role", "agent")["token"]
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", instance, "--data", data)
        start([os.path.join(BIN, "leeward-agent"), "--data", data, "--hub", f"127.0.0.1:{self.site.port_base + 1}", "--token", token,
               "--instance", instance, "--name", "member", *self.group_options(1)], log=data + ".log")
        key = wait_until(lambda: next((d["key"] for d in self.api.done("GET", "/machines/member/disks")["items"]
                                       if d["device"] == disk.device), None), "the second machine and its disk", 90)
        self.do("POST", "/machines/member/protect", {"disks": [key]})

    def now(self):
        return self.api.done("GET", self.path)

    def state(self, job):
        return self.api.done("GET", f"/jobs/{job['id']}")

    def ended(self, job):
        def over():
            now = self.state(job)
            return now if now["status"] in ("succeeded", "failed", "cancelled") else None
        return wait_until(over, f"{job['kind']} to end", 400)

    def finish(self, job):
        now = self.ended(job)
        check(now["status"] == "succeeded", f"{job['kind']}: {now['problem']} {now['steps']}")
        return now

    def key(self, disk):
        def listed():
            disks = self.api.done("GET", f"{self.path}/disks")["items"]
            return next((d["key"] for d in disks if d["device"] == disk.device), None)
        return wait_until(listed, f"the inventory to list {disk.device}", 60)

    def submit(self, method, path, body=None):
        self.serial += 1
        return self.api.done(method, path, body, Idempotency_Key=f"k{self.serial}")

    def do(self, method, path, body=None):
        """A job that nobody kills."""
        return self.finish(self.submit(method, path, body))

    def hold(self, kind, first=0):
        """From now on each step of jobs of that kind is held still once, from that ordinal on."""
        self.site.sql(f"DELETE FROM held; ALTER SEQUENCE held_up_to RESTART WITH {first + 1}; INSERT INTO held VALUES ('{kind}')")

    def hub_pid(self):
        for pid in children_of(self.site.process.pid):
            for daemon in children_of(pid):
                if os.path.basename(command_line(daemon)[0]) == "leeward-hub":
                    return daemon
        raise Failure("there is no leeward-hub")

    def kill_hub(self):
        """Its private PostgreSQL goes with it."""
        killed = self.hub_pid()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: self.hub_pid() != killed, "the hub to be started again", 60, 0.02)
        wait_until(lambda: self.api.ask("GET", "/status")[0] == 200, "the hub to answer", 90, 0.05)

    def until_held(self, job, ordinal):
        def still_or_over():
            return self.site.sql(SLEEPS) or self.state(job)["status"] not in ("queued", "running")
        wait_until(still_or_over, f"{job['kind']} to come to step {ordinal}", 400)
        now = self.state(job)
        check(now["status"] in ("queued", "running"), f"{job['kind']} is {now['status']}: {now['problem']} {now['steps']}")

    def kill_in_each_step(self, job):
        job = self.state(job)
        for ordinal in range(len(job["steps"])):
            self.until_held(job, ordinal)
            self.kill_hub()
        done = self.finish(job)
        self.killed_in[job["kind"]] = len(job["steps"])
        note(f"{job['kind']}: killed in each of {len(job['steps'])} steps")
        return done

    def through(self, kind, method, path, body=None):
        """Submits the job and kills the hub in each of its steps."""
        self.hold(kind)
        job = self.submit(method, path, body)
        check(job["kind"] == kind, job)
        return self.kill_in_each_step(job)


# ---- scenes, in this order ----

def branches_and_keys(w):
    sequence = w.do("POST", w.path + "/points", {})["result"]["sequence"]
    made = w.do("POST", "/branches", {"machine": w.machine, "sequence": int(sequence), "name": "kept"})["result"]["export_id"]
    w.do("POST", f"/branches/{made}/close")
    w.through("branch_open", "POST", f"/branches/{made}/open", {})
    w.do("DELETE", f"/branches/{made}")
    vault = w.api.done("GET", "/vaults")["items"][0]["id"]
    w.through("vault_rotate_key", "POST", f"/vaults/{vault}/rotate-key")
    w.through("machine_rotate_key", "POST", w.path + "/rotate-key")


def disks_nodes_and_groups(w):
    second = [w.key(w.second)]
    w.through("disk_add", "POST", w.path + "/disks/add", {"disks": second})
    w.through("disk_resize", "POST", w.path + "/disks/resize", {"disks": second})
    w.through("disk_exclude", "POST", w.path + "/disks/exclude", {"disks": second})
    other = Node(w.site, "other")
    moved = w.through("machine_move", "POST", w.path + "/move", {"node_id": other.shown()["id"]})
    check(w.now()["node_name"] == "other", moved)
    first = next(n for n in w.api.done("GET", "/nodes")["items"] if n["name"] != "other")
    w.do("POST", w.path + "/move", {"node_id": first["id"]})
    other.stop()
    w.second_machine()
    group = w.site.cli("group", "create", "both", "--interval", "0", "--machine", w.machine, "--machine", "member")["id"]
    w.through("group_point", "POST", f"/groups/{group}/points")
    check(len(w.api.done("GET", f"/groups/{group}/points")["items"]) == 1, "one job made another number of group points")
    w.site.cli("group", "delete", "both")


# Kinds that go on as well, and are killed elsewhere or not yet in each of their steps: a new kind must come into a table here.
ELSEWHERE = {"failover_end", "failover_change_point", "failover_commit", "failover_reprotect", "failover_failback", "failover_resume",
             "branch_promote", "plan_run", "plan_action", "plan_gate", "plan_end", "machine_restore"}
SCENES = (
    (branches_and_keys, ("branch_open", "vault_rotate_key", "machine_rotate_key")),
    (disks_nodes_and_groups, ("disk_add", "disk_resize", "disk_exclude", "machine_move", "group_point")),
)


@test
def every_kind_of_job_is_in_a_table():
    there = kinds_in_the_sources()
    with open(os.path.join(HERE, "test_job_steps.py")) as f:
        first = re.findall(r'worker\.through\("(\w+)"', f.read())
    check(len(first) > 10, f"the other table: {first}")
    table = [*first, *(kind for _, kinds in SCENES for kind in kinds), *ELSEWHERE]
    check(len(table) == len(set(table)) and set(table) == there,
          f"in no table: {sorted(there - set(table))}; in one and no more there: {sorted(set(table) - there)}")


@test
def jobs_about_disks_keys_nodes_and_groups_go_on_too():
    worker = Worker()
    worker.do("POST", worker.path + "/protect", {"disks": [worker.key(worker.disk)]})
    for scene, kinds in SCENES:
        note(scene.__name__)
        scene(worker)
        check(set(kinds) <= set(worker.killed_in), f"nobody was killed in {set(kinds) - set(worker.killed_in)}")


if __name__ == "__main__":
    main()
