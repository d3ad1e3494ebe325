#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hub is killed in each step of each kind of job, with the step's work done and not yet committed; the job goes on and ends well.

A trigger of the test's own holds the transaction of each step still, once; then the hub is killed, and the next one must do that step
again. That a step was held is kept in a sequence, whose value does not come back with the transaction.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
sys.path.insert(0, os.path.join(HERE, "..", "e2e", "vm"))
from api_client import Api  # noqa: E402
from rescue import rescue_image  # noqa: E402
from harness import MIB, Disk, Site, check, fresh, main, note, test, wait_until  # noqa: E402

SLEEPS = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


class Worker:
    """A site with a protected disk whose jobs can be held in the middle of a step."""

    def __init__(self):
        image = rescue_image()
        self.disk = Disk(48 * MIB)
        self.disk.make_fs("ext4")
        self.make_root()
        self.site = Site(daemon_options={"hub": ["--rescue-image", image, "--rescue-emulated"]})
        self.api = Api(self.site.env)
        self.machine = self.site.machine()["name"]
        self.serial = 0
        self.site.sql("""
            CREATE TABLE held (kind text);
            CREATE SEQUENCE held_up_to;
            CREATE FUNCTION hold_still() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF EXISTS (SELECT 1 FROM held h JOIN jobs j ON j.kind = h.kind WHERE j.id = NEW.job_id)
                    AND (SELECT last_value FROM held_up_to) < NEW.ordinal + 2
                THEN PERFORM setval('held_up_to', NEW.ordinal + 2), pg_sleep(300); END IF; RETURN NEW; END $$;
            CREATE TRIGGER hold_still BEFORE UPDATE ON job_steps FOR EACH ROW WHEN (NEW.status = 'succeeded')
                EXECUTE FUNCTION hold_still()""")

    def make_root(self):
        """What fix-ups take for the system of a machine."""
        place = self.disk.mount()
        for folder in ("etc", "usr"):
            os.mkdir(os.path.join(place, folder))
        with open(os.path.join(place, "etc", "fstab"), "w") as f:
            f.write("/dev/sdx1 / ext4 defaults 0 1\n")
        self.disk.unmount()

    def state(self, job):
        return self.api.done("GET", f"/jobs/{job['id']}")

    def finish(self, job):
        def over():
            now = self.state(job)
            return now if now["status"] in ("succeeded", "failed", "cancelled") else None
        now = wait_until(over, f"{job['kind']} to end", 400)
        check(now["status"] == "succeeded", f"{job['kind']}: {now['problem']} {now['steps']}")
        return now

    def key(self):
        disks = self.api.done("GET", f"/machines/{self.machine}/disks")["items"]
        return next(d["key"] for d in disks if d["device"] == self.disk.device)

    def submit(self, method, path, body=None):
        self.serial += 1
        return self.api.done(method, path, body, Idempotency_Key=f"k{self.serial}")

    def kill_in(self, job, ordinal):
        """Once the job holds still in that step. The hub's private PostgreSQL goes with it."""
        def still_or_over():
            return self.site.sql(SLEEPS) or self.state(job)["status"] not in ("queued", "running")
        wait_until(still_or_over, f"{job['kind']} to come to step {ordinal}", 400)
        now = self.state(job)
        check(now["status"] in ("queued", "running"), f"{job['kind']} is {now['status']}: {now['problem']} {now['steps']}")
        killed = self.site.kill("hub")
        wait_until(lambda: self.site.pid_of("hub") != killed, "the hub to be started again", 60)
        wait_until(lambda: self.api.ask("GET", "/status")[0] == 200, "the hub to answer", 90)

    def through(self, kind, method, path, body=None):
        """Submits the job and kills the hub in each of its steps."""
        self.site.sql(f"DELETE FROM held; ALTER SEQUENCE held_up_to RESTART; INSERT INTO held VALUES ('{kind}')")
        job = self.submit(method, path, body)
        check(job["kind"] == kind, job)
        for ordinal in range(len(job["steps"])):
            self.kill_in(job, ordinal)
        done = self.finish(job)
        note(f"{kind}: killed in each of {len(job['steps'])} steps")
        return done


@test
def jobs_go_on_in_each_step_of_each_kind():
    worker = Worker()
    machine = f"/machines/{worker.machine}"
    worker.through("protect", "POST", machine + "/protect", {"disks": [worker.key()]})
    worker.through("point_create", "POST", machine + "/points", {"tag": "held"})
    points = worker.api.done("GET", machine + "/points?tag=held")["items"]
    check(len(points) == 1, f"one job made {len(points)} points")
    opened = worker.through("point_open", "POST", "/exports", {"machine": worker.machine, "sequence": points[0]["sequence"]})
    export = opened["result"]["export_id"] if "export_id" in (opened["result"] or {}) else \
        worker.api.done("GET", "/exports")["items"][0]["id"]
    worker.through("point_close", "DELETE", f"/exports/{export}")
    vault = worker.api.done("GET", "/vaults")["items"][0]["id"]
    worker.through("vault_verify", "POST", f"/vaults/{vault}/verify", {})
    worker.through("vault_gc", "POST", f"/vaults/{vault}/gc", {})
    worker.through("resync", "POST", machine + "/resync")
    target = fresh("disk.img")
    worker.through("export", "POST", f"{machine}/points/{points[0]['sequence']}/export",
                   {"disk": 0, "path": target, "format": "raw"})
    check(os.path.getsize(target) == worker.disk.size_bytes, "the file that was exported is not the disk")
    kind = {"machine": worker.machine, "target": "disks", "options": {"fixups": {}}}
    previewed = worker.through("failover_preview", "POST", "/failovers/preview", kind)
    listed = [one["path"] for one in previewed["result"]["fixups"]["changes"]]
    check("/etc/fstab" in listed, f"fix-ups: {previewed['result']}")
    worker.through("failover", "POST", "/failovers", {**kind, "kind": "test"})
    failover = worker.api.done("GET", "/failovers")["items"][0]
    check([one["path"] for one in failover["fixups"]["changes"]] == listed, f"what was changed is not what was listed: {failover['fixups']}")
    worker.finish(worker.submit("POST", f"/failovers/{failover['id']}/cleanup", {"outcome": "passed"}))
    worker.through("unprotect", "POST", machine + "/unprotect")
    worker.through("erase", "POST", machine + "/erase")


if __name__ == "__main__":
    main()
