#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two hubs on one PostgreSQL share the work, and one goes on with everything when the other is killed.

Agent, node and vault reach them through a forwarder that connects to the first hub that is there, as a load balancer does.
"""
import contextlib
import http.server
import os
import signal
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
sys.path.insert(0, os.path.join(HERE, "..", "e2e", "vm"))
from fixup_machine import is_alive, machines_below, make_system  # noqa: E402
from rescue import rescue_image  # noqa: E402
from harness import MIB, Disk, check, defer, image_of, main, note, stop, test, wait_until  # noqa: E402
from hub_pair import Pair  # noqa: E402


@test
def two_hubs_share_the_work_and_one_goes_on_alone():
    pair = Pair()
    serial = 0
    while not (pair.one.finished_jobs() and pair.two.finished_jobs()):
        check(serial < 200, "one of two hubs has worked on none of 200 jobs")
        jobs = []
        for api in (pair.first, pair.second) * 5:
            serial += 1
            jobs.append((api, api.done("POST", "/machines/source/points", {"tag": f"t{serial}"}, Idempotency_Key=f"k{serial}")))
        for api, job in jobs:
            pair.wait_for(api, job)
    note(f"{pair.one.finished_jobs()} jobs by the first hub, {pair.two.finished_jobs()} by the second")
    checked = wait_until(lambda: pair.database.sql("SELECT checked_at FROM alert_sweep WHERE checked_at IS NOT NULL"),
                         "a hub to watch over alerts", 90)
    # A job that waits for the vault, whose session the first hub has.
    pair.vault.send_signal(signal.SIGSTOP)
    vault = pair.items("/vaults")[0]
    waiting = pair.first.done("POST", f"/vaults/{vault['id']}/verify", {}, Idempotency_Key="verify")
    wait_until(lambda: pair.second.done("GET", f"/jobs/{waiting['id']}")["status"] == "running", "the job to run", 60)
    pair.one.kill()
    killed = time.monotonic()
    pair.vault.send_signal(signal.SIGCONT)
    pair.wait_for(pair.second, waiting)
    note(f"the job that waited was done {time.monotonic() - killed:.1f} s after the kill")
    wait_until(lambda: pair.database.sql(f"SELECT checked_at > timestamptz '{checked}' + interval '10 seconds' FROM alert_sweep") == "t",
               "the other hub to watch over alerts", 90)
    point = pair.second.done("POST", "/machines/source/points", {"tag": "alone"}, Idempotency_Key="alone")
    pair.wait_for(pair.second, point)


@test
def a_job_that_a_killed_hub_holds_is_taken_over():
    pair = Pair()
    pair.database.sql("""
        CREATE FUNCTION hold_still() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(300); RETURN NEW; END $$;
        CREATE TRIGGER hold_still BEFORE UPDATE ON job_steps FOR EACH ROW WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION hold_still()""")
    pair.leave_it_to_the_first()
    job = pair.first.done("POST", "/machines/source/points", {"tag": "held"}, Idempotency_Key="held")
    asleep = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    backend = wait_until(lambda: pair.database.sql(asleep), "the first hub to be in the middle of a step", 60)
    pair.two.process.send_signal(signal.SIGCONT)
    pair.one.kill()
    killed = time.monotonic()
    pair.database.sql(f"SELECT pg_terminate_backend({backend})")
    wait_until(lambda: not pair.database.sql(asleep), "its connection to be gone", 30)
    pair.database.sql("DROP TRIGGER hold_still ON job_steps")
    claimed = wait_until(lambda: pair.second.done("GET", f"/jobs/{job['id']}")["steps"][0]["status"] == "succeeded" and
                         time.monotonic(), "the other hub to do the step", 60, 0.05)
    note(f"taken over {claimed - killed:.1f} s after the kill")
    pair.wait_for(pair.second, job)
    points = pair.second.done("GET", "/machines/source/points?tag=held")["items"]
    check(len(points) == 1, f"{len(points)} points were made by one job")
    stop(pair.two.process)


class Receiver(http.server.BaseHTTPRequestHandler):
    """A webhook that answers once it may."""
    told, may_answer = [], threading.Event()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Receiver.told.append(self.headers["X-Leeward-Delivery"])
        Receiver.may_answer.wait(300)
        with contextlib.suppress(OSError):  # who asked may be gone
            self.send_response(204)
            self.end_headers()

    def log_message(self, *_):
        pass


@test
def the_other_hub_goes_on_with_a_plan_and_tells_a_webhook_the_same():
    """The hub that runs it is killed when somebody has answered, and its webhook was told and has not."""
    pair = Pair()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    defer(server.shutdown)
    defer(Receiver.may_answer.set)
    plan = pair.first.done("POST", "/plans", {"name": "drill", "groups": [{"name": "all", "steps": [
        {"name": "database", "type": "machine", "machine": "source"},
        {"name": "look", "type": "gate", "question": "Is it there?", "after": ["database"]},
        {"name": "told", "type": "webhook", "url": f"http://127.0.0.1:{server.server_address[1]}/", "after": ["look"]}]}]})
    pair.leave_it_to_the_first()
    job = pair.first.done("POST", f"/plans/{plan['id']}/runs", {"kind": "test"}, Idempotency_Key="run")
    gate = wait_until(lambda: pair.database.sql("SELECT id FROM jobs WHERE kind = 'plan_gate' AND status = 'waiting_for_input'"), "the gate to ask", 120)
    pair.first.done("POST", f"/jobs/{gate}/answer", {"answer": "continue"})
    wait_until(lambda: Receiver.told, "the webhook to be told", 120)
    pair.two.process.send_signal(signal.SIGCONT)
    pair.one.kill()
    killed = time.monotonic()
    wait_until(lambda: len(Receiver.told) == 2, "the other hub to tell the webhook again", 120, 0.05)
    note(f"told again {time.monotonic() - killed:.1f} s after the kill")
    Receiver.may_answer.set()
    pair.wait_for(pair.second, job)
    check(len(Receiver.told) == 2 and len(set(Receiver.told)) == 1, f"the receiver cannot know that it was told the same: {Receiver.told}")
    report = pair.second.done("GET", f"/plan-runs/{job['params']['run_id']}")
    steps = {s["name"]: (s["state"], s["attempts"]) for s in report["steps"]}
    check(steps == dict.fromkeys(("database", "look", "told"), ("succeeded", 1)), f"{steps}")
    for what, count in (("failovers", 1), ("branches", 1), ("plan-runs", 1)):
        found = pair.second.done("GET", "/" + what)["items"]
        check(len(found) == count, f"{what}: {found}")


@test
def the_other_hub_ends_a_restoration():
    """The hub that does it is killed while a point is being written to another machine's disk."""
    pair = Pair(disk_mib=256)
    disk, onto = pair.disks["source"], Disk(256 * MIB)
    pair.start_bare_agent("spare", "--rescue")
    key = pair.key("spare", onto)
    disk.fill_random(40000)
    os.sync()
    pair.wait_for(pair.first, pair.first.done("POST", "/machines/source/points", {"tag": "all"}, Idempotency_Key="all"))
    held, empty, written = image_of(disk.device), image_of(onto.device), onto.sectors_written()
    stop(pair.agents["source"])
    wait_until(lambda: not pair.first.done("GET", "/machines/source")["online"], "the machine to be lost", 60)
    pair.leave_it_to_the_first()
    job = pair.first.done("POST", "/machines/source/restore", {"to": "spare", "confirm": "spare", "disks": [{"number": 0, "key": key}]},
                          Idempotency_Key="restore")
    wait_until(lambda: onto.sectors_written() > written + 4 * MIB // 512, "the disk to be written", 60, 0)
    pair.vault.send_signal(signal.SIGSTOP)
    defer(pair.vault.send_signal, signal.SIGCONT)
    running = [s["name"] for s in pair.first.done("GET", f"/jobs/{job['id']}")["steps"] if s["status"] == "running"]
    check(running and image_of(onto.device) not in (empty, held), f"it was not stopped in the middle: {running}")
    pair.two.process.send_signal(signal.SIGCONT)
    pair.one.kill()
    killed = time.monotonic()
    pair.vault.send_signal(signal.SIGCONT)
    pair.wait_for(pair.second, job)
    note(f"killed in {running}; it was done {time.monotonic() - killed:.1f} s after that")
    check(image_of(onto.device) == held, "the disk is not what the point holds")
    check(wait_until(lambda: pair.agents["spare"].poll(), "the rescue system to restart", 60) == 10, "the rescue system ended otherwise")
    shown = pair.second.done("GET", "/machines/source")
    check(shown["generation"] == 2, f"the generation moved more than once: {shown['generation']}")
    numbered = {d["number"]: d["key"] for d in pair.second.done("GET", "/machines/source/disks")["items"] if d["number"] is not None}
    check(numbered == {0: key}, f"the machine's disks: {numbered}")
    told = [e for e in pair.second.done("GET", "/events?limit=200")["items"] if e["code"] == "machine_restored"]
    check(len(told) == 1, f"it was told {len(told)} times")


@test
def the_other_hub_does_the_fix_ups_that_a_killed_one_had_begun():
    pair = Pair(hub_options=["--rescue-image", rescue_image(), "--rescue-emulated"])
    make_system(pair.disks["source"])
    os.sync()
    pair.wait_for(pair.first, pair.first.done("POST", "/machines/source/points", {"tag": "all"}, Idempotency_Key="all"))
    pair.leave_it_to_the_first()
    job = pair.first.done("POST", "/failovers", {"machine": "source", "target": "disks", "kind": "test", "options": {"fixups": {}}}, Idempotency_Key="drill")
    machines = wait_until(lambda: machines_below(pair.one.process.pid), "the machine that does fix-ups", 300, 0.05)
    pair.two.process.send_signal(signal.SIGCONT)
    pair.one.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in machines), "the machine to end with its hub", 60, 0.05)
    wait_until(lambda: machines_below(pair.two.process.pid), "a machine of the other hub", 60, 0.05)
    pair.wait_for(pair.second, job, 600)
    found = pair.second.done("GET", "/failovers")["items"]
    check(len(found) == 1 and len(pair.second.done("GET", "/branches")["items"]) == 1, f"not one replica: {found}")
    paths = [one["path"] for one in found[0]["fixups"]["changes"]]
    check(found[0]["state"] == "running" and "/etc/fstab" in paths and "/etc/leeward/replica" in paths, f"{found[0]}")


if __name__ == "__main__":
    main()
