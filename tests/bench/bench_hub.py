# SPDX-License-Identifier: Apache-2.0
"""A hub with ten thousand agents, each with a session of its own and a status every five seconds, and beside that the API under
five hundred requests a second: memory of the hub and its PostgreSQL, latency of the API, age of what the API shows.

The agents are those of `leeward simulate` (real certificates, real protocol, one process). The requests come from hub_load, an open loop:
latency counts from the moment at which a request was due, so a stall is charged in full (wrk and its like ask less often while
they wait). All of it, the simulated machines and the load too, runs on the one machine."""
import datetime
import json
import os
import random
import subprocess
import time

import harness
from figure import figure, percentile

RATE = 500
WARM_S = 10
PROTECT_S = 900
MIB = 1 << 20


def online_count(site):
    return sum(m["online"] for m in site.items("machine", "list"))


def protected_and_at_rest(site, count):
    """Some of a fleet never are: trackers are lost in it, and first copies of large disks take their time, as in a real one."""
    status = site.cli("status")
    return status["machines"]["protected"] >= count * 85 // 100 and status["jobs"]["running"] <= count // 20


def processes(site):
    """The hub and every process of its PostgreSQL."""
    hub = site.pid_of("hub")
    found, queue = [], [hub]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += harness.children_of(pid)
    return found


def memory_bytes(pids):
    """What they hold together: shared pages are counted once (PSS)."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith("Pss:")) * 1024
        except (FileNotFoundError, ProcessLookupError, StopIteration):
            continue
    return total


def paths_of(site, count=200, seed=1):
    """What a console with some users asks: pages of the list, single machines, their points and history, jobs, events."""
    page = site.items("machine", "list")
    rng = random.Random(seed)
    machines = [m["id"] for m in rng.sample(page, min(len(page), 100))]
    paths = []
    for i in range(count):
        machine = machines[i % len(machines)]
        paths += [f"/api/v1/machines/{machine}", f"/api/v1/machines/{machine}/points?limit=20", "/api/v1/machines?limit=50&sort=name",
                  f"/api/v1/machines/{machine}/disks", "/api/v1/jobs?limit=20", "/api/v1/events?limit=20", "/api/v1/nodes?limit=50",
                  "/api/v1/status", f"/api/v1/machines/{machine}", "/api/v1/machines?limit=50&health=critical"]
    return paths


def load(site, rate, seconds, paths, warm_s=0):
    program = os.path.join(harness.BIN, "hub_load")
    result = subprocess.run([program, site.env["LEEWARD_URL"], site.env["LEEWARD_CA"], str(rate), str(warm_s), str(seconds),
                             *paths], env=site.env, capture_output=True, text=True, timeout=(warm_s + seconds) * 4 + 300)
    harness.check(result.returncode == 0, f"hub_load: {result.stderr}")
    answer = json.loads(result.stdout)
    harness.check(answer["failed"] == 0 and set(answer["by_status"]) == {"200"},
                  f"not all requests were answered: {answer} {result.stderr}")
    return answer


def status_ages(site):
    """Seconds since each machine that is online was last heard of, as the API has it."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return [(now - datetime.datetime.fromisoformat(m["last_seen_at"].replace("Z", "+00:00"))).total_seconds()
            for m in site.items("machine", "list") if m["online"] and m["last_seen_at"]]


def measure(options):
    count = options.sessions
    site = harness.Site("--no-agent", "--simulate", str(count), "--log-level", "warn", wait=False)
    harness.wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the hub", 120)
    site.load_env()
    harness.wait_until(lambda: online_count(site) >= count * 99 // 100, f"{count} sessions", 1800, 3.0)
    harness.note(count, "sessions; waiting until they are protected")
    begun = time.monotonic()
    # Jobs that protect machines are load too: what is not done by then goes on beside the measurement, and is told.
    harness.wait_until(lambda: protected_and_at_rest(site, count) or time.monotonic() - begun > PROTECT_S, "the fleet to be protected", PROTECT_S + 120, 5.0)
    harness.note(site.cli("status")["jobs"], "jobs")
    pids = processes(site)
    idle = memory_bytes(pids)
    answer = load(site, RATE, options.seconds, paths_of(site), WARM_S)
    ages = status_ages(site)
    pids = processes(site)
    busy = memory_bytes(pids)
    shown = {"sessions": online_count(site), "hub_mib": round(memory_bytes(pids[:1]) / MIB), "idle_mib": round(idle / MIB),
             "protected": site.cli("status")["machines"]["protected"], "jobs_running": site.cli("status")["jobs"]["running"], "postgresql_processes": len(pids) - 1}
    figure("hub.memory", busy / 1e6, f"MB at {count} sessions, with its PostgreSQL", "<= 1000", leeward=shown)
    figure("hub.api_p99", answer["p99_ms"], f"ms at {RATE} requests/s and {count} sessions", "<= 20", leeward=answer)
    figure("hub.status_age_p99", percentile(ages, 0.99), f"s with a status every 5 s from each of {len(ages)}", "<= 15",
           leeward={"p50_s": round(percentile(ages, 0.5), 2), "oldest_s": round(max(ages), 2)})
    site.stop()
