# SPDX-License-Identifier: Apache-2.0
"""Jobs that are held in the middle of each of their steps, with the step's work done and not yet committed, so that their hub can be killed there.

A trigger of the test's own holds the transaction of a step. Which steps were held is written down before the kill, so that the next hub, which does the same step
again, gets past it. Several jobs may be held at a time: one kill is then a kill in a step of each.
"""
import os
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from api_client import Api  # noqa: E402
from harness import Failure, check, children_of, command_line, fresh, note, wait_until  # noqa: E402

TRIGGER = """
    CREATE TABLE to_hold (kind text PRIMARY KEY);
    CREATE TABLE was_held (job_id uuid, ordinal integer, PRIMARY KEY (job_id, ordinal));
    CREATE FUNCTION hold_still() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM to_hold JOIN jobs USING (kind) WHERE jobs.id = NEW.job_id)
            AND NOT EXISTS (SELECT FROM was_held w WHERE w.job_id = NEW.job_id AND w.ordinal = NEW.ordinal)
        THEN PERFORM set_config('application_name', NEW.job_id || ' ' || NEW.ordinal, false), pg_sleep(300); END IF; RETURN NEW; END $$;
    CREATE TRIGGER hold_still BEFORE UPDATE ON job_steps FOR EACH ROW WHEN (NEW.status = 'succeeded' AND OLD.status <> 'succeeded')
        EXECUTE FUNCTION hold_still()"""
HELD = "SELECT application_name FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
OPEN = """SELECT jobs.id || ' ' || jobs.kind || ' ' || jobs.status FROM jobs JOIN to_hold USING (kind)
    WHERE status IN ('queued', 'running', 'waiting_for_input')"""
LOCKED_OUT_S = 5
# What they do is done by jobs of their own, which are held first.
WAITS_FOR_OTHERS = {"plan_run", "plan_end"}
# `leeward up` waits longer before each restart of a daemon that does not live for long, and here it is to die dozens of times.
AT_ONCE = """
import ctypes, signal, subprocess, sys
while True:
    daemon = subprocess.Popen(sys.argv[1:], preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGTERM))
    signal.signal(signal.SIGTERM, lambda *_: daemon.terminate())
    if daemon.wait() != -signal.SIGKILL:
        sys.exit(daemon.returncode)
"""


def restarted_at_once():
    """What `daemon_starters` of a Site takes for its hub."""
    again = fresh("at_once.py")
    with open(again, "w") as f:
        f.write(AT_ONCE)
    return {"hub": f"{sys.executable} '{again}'"}


class HeldJobs:
    """Of a site whose hub is started with restarted_at_once()."""

    def __init__(self, site):
        self.site, self.api = site, Api(site.env)
        self.serial = self.kills = 0
        self.killed_in = {}
        site.sql(TRIGGER)

    # -- jobs --

    def state(self, job):
        return self.api.done("GET", f"/jobs/{job['id']}")

    def ended(self, job):
        return self.api.ended(job, every=0.05)

    def finish(self, job):
        now = self.ended(job)
        check(now["status"] == "succeeded", f"{job['kind']}: {now['problem']} {now['steps']}")
        return now

    def submit(self, method, path, body=None):
        self.serial += 1
        return self.api.done(method, path, body, Idempotency_Key=f"k{self.serial}")

    def do(self, method, path, body=None):
        """A job that nobody kills."""
        return self.finish(self.submit(method, path, body))

    # -- kills --

    def hold(self, *kinds):
        """From now on each step of jobs of these kinds is held still once."""
        self.site.sql("DELETE FROM to_hold; " + "".join(f"INSERT INTO to_hold VALUES ('{kind}'); " for kind in kinds))

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
        self.kills += 1
        wait_until(lambda: self.hub_pid() != killed, "the hub to be started again", 60, 0.02)
        wait_until(lambda: self.api.ask("GET", "/status")[0] == 200, "the hub to answer", 90, 0.05)

    def _held_or_over(self, answer):
        """Waits until all jobs that can be held are; what is held then ("" when all jobs are over). One that waits for a row which a held one has locked is
        not waited for: then nothing changes any more."""
        seen, since = [], 0

        def look():
            nonlocal seen, since
            rows = [row.split(" ") for row in self.site.sql(OPEN).splitlines()]
            if not rows:
                return [""]
            for job, kind, status in rows:
                if status == "waiting_for_input":
                    self.api.ask("POST", f"/jobs/{job}/answer", {"answer": answer})
            held = self.site.sql(HELD).splitlines()
            needed = [job for job, kind, _ in rows if kind not in WAITS_FOR_OTHERS] or [job for job, _, _ in rows]
            if seen != sorted(held):
                seen, since = sorted(held), time.monotonic()
            all_are = set(needed) <= {one.split(" ")[0] for one in held}
            return held if all_are or (held and time.monotonic() > since + LOCKED_OUT_S) else None
        return wait_until(look, "jobs to be held in a step", 400, 0.05)

    def _kill_while(self, held):
        self.site.sql("".join("INSERT INTO was_held VALUES ('{}', {}) ON CONFLICT DO NOTHING; ".format(*one.split(" ")) for one in held))
        self.kill_hub()

    def kill_when_held(self, job, before=lambda: None):
        """Once, in whichever step it is next; before() is called while it is held."""
        held = self._held_or_over("continue")
        check(held != [""], f"{job['kind']} is over: {self.state(job)}")
        before()
        self._kill_while(held)

    def job_of_kind(self, kind):
        """The newest."""
        return {"id": self.site.sql(f"SELECT id FROM jobs WHERE kind = '{kind}' ORDER BY created_at DESC LIMIT 1"), "kind": kind}

    def kill_in_each_step(self, *jobs, answer="continue"):
        """Until no job of the kinds that are held is left; what each of `jobs` ended with. Gates are answered."""
        while True:
            held = self._held_or_over(answer)
            if held == [""]:
                break
            self._kill_while(held)
        return [self.finish(job) for job in jobs]

    def note_kills(self, *jobs):
        """Each of their steps was held once, or the test proved nothing."""
        for job in jobs:
            steps = int(self.site.sql(f"SELECT count(*) FROM job_steps WHERE job_id = '{job['id']}'"))
            held = int(self.site.sql(f"SELECT count(*) FROM was_held WHERE job_id = '{job['id']}'"))
            check(steps == held > 0, f"{job['kind']} has {steps} steps and was held in {held}")
            self.killed_in[job["kind"]] = steps
            note(f"{job['kind']}: killed in each of {steps} steps")

    def has_killed_in(self, kinds):
        """The hub in jobs of these kinds, and of no others."""
        check(set(self.killed_in) == set(kinds), f"killed in {sorted(self.killed_in)}, the table has {sorted(kinds)}")
        note(f"{self.kills} kills in {sum(self.killed_in.values())} steps")

    def all_through(self, *asked):
        """Submits jobs that do not wait for each other, each given as kind, method, path and body, and kills the hub in each of their steps."""
        self.hold(*(kind for kind, *_ in asked))
        jobs = [self.submit(*request) for _, *request in asked]
        for job, (kind, *_) in zip(jobs, asked):
            check(job["kind"] == kind, job)
        done = self.kill_in_each_step(*jobs)
        self.note_kills(*jobs)
        self.hold()
        return done

    def through(self, kind, method, path, body=None):
        return self.all_through((kind, method, path, body))[0]
