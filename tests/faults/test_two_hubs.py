#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two hubs on one PostgreSQL share the work, and one goes on with everything when the other is killed.

Agent, node and vault reach them through a forwarder that connects to the first hub that is there, as a load balancer does.
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from harness import check, defer, main, note, stop, test, wait_until  # noqa: E402
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
    pair.two.process.send_signal(signal.SIGSTOP)  # so that it is the first hub that claims it
    defer(lambda: pair.two.process.poll() is None and pair.two.process.send_signal(signal.SIGCONT))
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


if __name__ == "__main__":
    main()
