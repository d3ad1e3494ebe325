#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hub is killed in each step of the jobs of a machine's failovers, of its way back, of its restoration onto other hardware, and of recovery plans.

Two machines with the same disk go the same way, one of them in peace. After each job what is there of both must be the same: states, generations, failovers,
exports and branches of hub and vault, events, and what the replica or the disk holds.
"""
import collections
import glob
import http.server
import json
import os
import signal
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from agent_site import Agent, HubSite  # noqa: E402
from held_jobs import HeldJobs, restarted_at_once  # noqa: E402
from harness import MIB, Disk, check, defer, fresh, image_of, main, note, run, test, undo, wait_until  # noqa: E402
from vault_site import Vault  # noqa: E402

KINDS = ("failover_end", "failover_change_point", "failover_commit", "failover_reprotect", "failover_failback", "failover_resume", "failover",
         "machine_restore", "plan_run", "plan_gate", "plan_action", "plan_end")
SIZE = 16 * MIB
PLAN = """{"name": "drill", "groups": [{"name": "all", "steps": [
    {"name": "database", "type": "machine", "machine": "calm"},
    {"name": "look", "type": "gate", "question": "Is it there?", "after": ["database"]},
    {"name": "told", "type": "webhook", "url": "URL", "after": ["look"]}]}]}"""


class Machine:
    """A protected machine, and everything of it that a job may leave."""

    def __init__(self, w, name):
        self.w, self.name, self.path = w, name, f"/machines/{name}"
        self.disk = Disk(SIZE, name=name)
        self.disk.fill_random(300)
        self.agent = Agent(w.site, name)
        w.do("POST", self.path + "/protect", {"disks": [self.agent.key(self.disk)]})
        self.id = self.now()["id"]
        self.first = self.agent.point_of(self.disk)["sequence"]
        self.disk.fill_random(60, seed=2)
        self.agent.point_of(self.disk)
        self.begin_anew()

    def begin_anew(self):
        """Until now points were opened as often as it took: only what is left behind from here on is compared."""
        self.begun = {}
        self.begun = self.left()

    def now(self):
        return self.w.api.done("GET", self.path)

    def protected(self):
        wait_until(self.agent.is_protected, f"{self.name} to be protected", 180, 0.2)

    def failover(self):
        """Its newest."""
        return self.w.site.sql(f"SELECT id FROM failovers WHERE machine_id = '{self.id}' ORDER BY created_at DESC LIMIT 1")

    def uri(self):
        """Of its replica's disk; "" when there is none."""
        return self.w.site.sql(f"SELECT disks->0->>'uri' FROM exports WHERE machine_id = '{self.id}' AND state = 'open' AND writable")

    def rows(self, what):
        return collections.Counter(self.w.site.sql(f"SELECT {what} WHERE machine_id = '{self.id}'").splitlines())

    def since(self, name, what):
        return self.rows(what) - self.begun.get(name, collections.Counter())

    def left(self):
        vault = os.path.join(self.w.site.data, "vault")
        uri, shown = self.uri(), self.now()
        return {"machine": [shown["state"], shown["generation"]],
                "failovers": self.since("failovers", "kind, state, verdict FROM failovers"),
                "exports": self.since("exports", "state, writable FROM exports"),
                "jobs": self.since("jobs", "kind, status FROM jobs"),
                "events": self.since("events", "code FROM (SELECT code, machine_id FROM events WHERE job_id IS NOT NULL) told"),
                "commands": self.since("commands", "target_role, done, code FROM (SELECT c.*, machine_id FROM commands c JOIN jobs j ON j.id = job_id) asked"),
                "vault's exports": sum(self.is_named_in(path) for path in glob.glob(os.path.join(vault, "exports", "*.json"))),
                "vault's branches": len(glob.glob(os.path.join(vault, "machines", self.id, "branches", "*"))),
                "replica": self.image(uri) if uri else ""}

    def is_named_in(self, path):
        with open(path) as f:
            return self.id in f.read()

    @staticmethod
    def image(uri):
        copy = fresh("replica.img")
        run("nbdcopy", uri, copy)
        image = image_of(copy)
        os.unlink(copy)
        return image

    def write(self, byte, at):
        run("qemu-io", "-f", "raw", "-c", f"write -P {byte} {at} 256k", "-c", "flush", self.uri())


class Worker(HeldJobs):
    """A site with the two machines."""

    def __init__(self):
        super().__init__(HubSite(daemon_starters=restarted_at_once()))
        self.calm, self.tried = Machine(self, "calm"), Machine(self, "tried")
        self.second = None

    def old(self):
        """The name of a second vault, which there is from the first time on."""
        self.second = self.second or Vault(self.site, "old")
        return self.second.name

    def same(self, after):
        """What is left of both machines, which the vault may be about to clear away."""
        def compare():
            calm, tried = self.calm.left(), self.tried.left()
            unlike = {what: (calm[what], tried[what]) for what in calm if calm[what] != tried[what]}
            check(not unlike, f"after {after}, in peace and with kills: {unlike}")
            return calm
        return wait_until(compare, f"both machines to be the same after {after}", 60, 0.3)

    def both(self, way):
        """The same way for both machines: a function of a machine that yields jobs, as kind, method, path and body."""
        for calm, (kind, *tried) in zip(way(self.calm), way(self.tried), strict=True):
            self.do(*calm[1:])
            self.through(kind, *tried)
            left = self.same(kind)
            note(f"{kind}: {left['machine']}")


# ---- scenes, in this order ----

def planned_and_rolled_back(m):
    yield "failover", "POST", "/failovers", {"machine": m.name, "kind": "planned"}
    yield "failover_end", "POST", f"/failovers/{m.failover()}/rollback"
    m.protected()


def to_an_older_point_and_committed(m):
    m.w.do("POST", "/failovers", {"machine": m.name, "kind": "unplanned"})
    yield "failover_change_point", "POST", f"/failovers/{m.failover()}/change-point", {"sequence": m.first}
    yield "failover_commit", "POST", f"/failovers/{m.failover()}/commit"
    m.write(0x11, "1M")
    yield "failover_reprotect", "POST", f"/failovers/{m.failover()}/reprotect", {"vault": m.w.old()}
    m.write(0x22, "5M")


def a_failback_that_is_given_up(w):
    """Once the replica was stopped, and while the vault does not answer, so that the job is between two steps."""
    m = w.tried
    before = m.left()
    w.hold("failover_failback")
    job = w.submit("POST", f"/failovers/{m.failover()}/failback", {"confirm": m.name})
    names = [step["name"] for step in job["steps"]]
    vault = w.site.pid_of("vault")

    def before_the_last_kill():
        os.kill(vault, signal.SIGSTOP)
        w.hold("failover_resume")
    try:
        for _ in names[:names.index("stop")]:
            w.kill_when_held(job)
        w.kill_when_held(job, before_the_last_kill)
        wait_until(lambda: {s["name"]: s["status"] for s in w.state(job)["steps"]}["close"] == "running", "its disks to be closed", 120, 0.05)
        w.api.done("POST", f"/jobs/{job['id']}/cancel")
        check(w.ended(job)["status"] == "cancelled", "the failback was not cancelled")
    finally:
        os.kill(vault, signal.SIGCONT)
    resume = w.job_of_kind("failover_resume")
    w.kill_in_each_step(resume)
    w.note_kills(resume)
    after = {}

    def as_before():
        after.update(m.left())
        return all(after[what] == before[what] for what in ("machine", "failovers", "exports", "vault's exports", "vault's branches", "replica"))
    wait_until(as_before, "the replica to run as before", 60, 0.3)
    w.calm.begin_anew()
    w.tried.begin_anew()


def the_way_back(m):
    yield "failover_failback", "POST", f"/failovers/{m.failover()}/failback", {"confirm": m.name}
    m.protected()


def onto_other_hardware(w):
    """Of the machine that is lost the newest point, onto a disk of one in the rescue system."""
    m = w.tried
    onto = Disk(SIZE + 4 * MIB, name="onto")
    spare = Agent(w.site, "spare", "--rescue")
    held = image_of(m.disk.device)
    m.agent.point_of(m.disk)
    m.agent.stop()
    key = spare.key(onto)
    generation = m.now()["generation"]
    w.through("machine_restore", "POST", m.path + "/restore",
              {"to": "spare", "confirm": "spare", "disks": [{"number": 0, "key": key}]})
    check(m.now()["generation"] == generation + 1, f"generation {generation} became {m.now()['generation']}")
    check(m.left()["events"]["machine_restored"] == 1, "it was told another number of times")
    part = fresh("part.img")
    run("dd", f"if={onto.device}", f"of={part}", "bs=1M", f"count={SIZE // MIB}", "iflag=direct")
    check(image_of(part) == held, "the disk is not what the point holds")
    wait_until(lambda: spare.process.poll() is not None, "the rescue system to restart", 60, 0.2)
    check(spare.process.returncode == 10, f"it ended with {spare.process.returncode}")
    undo(spare.process.undo_entry)
    check({d["number"]: d["key"] for d in m.agent.disks() if d["number"] is not None} == {0: key}, "the machine's disks")


class Receiver(http.server.BaseHTTPRequestHandler):
    told = []

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Receiver.told.append(self.headers["X-Leeward-Delivery"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def recovery_plans(w):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    defer(server.shutdown)
    plan = w.api.done("POST", "/plans", json.loads(PLAN.replace("URL", f"http://127.0.0.1:{server.server_address[1]}/hook")))
    ways = []
    for kinds in ((), ("plan_run", "plan_gate", "plan_action")):
        Receiver.told.clear()
        ways.append(a_drill(w, plan, True, *kinds))
        # Who was told and could not be heard is told again, under the same id.
        check(len(set(Receiver.told)) == 1, f"the webhook was told of {Receiver.told}")
    check(ways[0] == ways[1], f"in peace and with kills: {ways}")
    a_drill(w, plan, False)
    left = w.calm.left()
    check(left["replica"] and left["vault's branches"] == 1, f"no replica is left: {left}")
    run_id = w.api.done("GET", "/plan-runs?sort=-requested_at&limit=1")["items"][0]["id"]
    w.through("plan_end", "POST", f"/plan-runs/{run_id}/cleanup", {"outcome": "passed"})
    left = w.calm.left()
    check(not left["replica"] and left["vault's branches"] == 0, f"a replica is left: {left}")


def a_drill(w, plan, cleanup, *kinds):
    """What came of it, without times and ids."""
    w.hold(*(kinds or ["plan_gate"]))
    before = w.calm.left()["events"]
    job = w.submit("POST", f"/plans/{plan['id']}/runs", {"kind": "test", "cleanup": cleanup})
    if kinds:
        w.kill_in_each_step(job)
        w.note_kills(job, *(w.job_of_kind(kind) for kind in kinds[1:]))
    else:
        gate = wait_until(lambda: w.site.sql("SELECT id FROM jobs WHERE kind = 'plan_gate' AND status = 'waiting_for_input'"), "the gate to ask", 120, 0.1)
        w.hold()
        w.api.done("POST", f"/jobs/{gate}/answer", {"answer": "continue"})
        w.finish(job)
    report = w.site.cli("plan", "report", job["params"]["run_id"])
    left = w.calm.left()
    return {"state": report["state"], "steps": [(s["name"], s["state"], s["attempts"]) for s in report["steps"]],
            "events": left["events"] - before, "machine": left["machine"], "vault": [left["vault's exports"], left["vault's branches"]],
            "replica": left["replica"]}


@test
def jobs_of_failovers_restorations_and_plans_go_on_too():
    w = Worker()
    w.both(planned_and_rolled_back)
    w.both(to_an_older_point_and_committed)
    a_failback_that_is_given_up(w)
    w.both(the_way_back)
    check(image_of(w.tried.disk.device) == image_of(w.calm.disk.device), "the disks are not the same any more")
    recovery_plans(w)
    onto_other_hardware(w)
    w.has_killed_in(KINDS)


if __name__ == "__main__":
    main()
