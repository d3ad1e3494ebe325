#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hub with a few hundred sessions and an API under load beside them: everybody is served, nobody is lost. How fast is measured
elsewhere (`tests/bench/run hub`), not judged here."""
import os
import sys

from harness import ROOT, Site, check, main, test, wait_until

sys.path.append(os.path.join(ROOT, "tests", "bench"))
from bench_hub import load, online_count, paths_of, processes  # noqa: E402

MACHINES = 300


@test
def hundreds_of_sessions_and_a_busy_api_do_not_lose_each_other():
    site = Site("--no-agent", "--simulate", str(MACHINES), "--log-level", "warn", wait=False)
    wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the hub", 90)
    site.load_env()
    wait_until(lambda: online_count(site) >= MACHINES * 97 // 100, "the sessions", 180, 0.5)
    wait_until(lambda: site.cli("status")["machines"]["protected"] >= MACHINES // 2, "half of the fleet to be protected", 240, 1)
    hub = processes(site)[0]
    answer = load(site, 20, 10, paths_of(site))
    check(answer["requests"] == 200, f"asked {answer['requests']} times instead of 200")
    check(site.pid_of("hub") == hub, "the hub was started again meanwhile")
    check(online_count(site) >= MACHINES * 97 // 100, "sessions were lost under load")
    before = {m["id"]: m["last_seen_at"] for m in site.items("machine", "list") if m["online"]}

    def all_heard_again():
        return all(m["last_seen_at"] > before[m["id"]] for m in site.items("machine", "list") if m["online"] and m["id"] in before)
    wait_until(all_heard_again, "a later status of every machine", 60, 1)


if __name__ == "__main__":
    main()
