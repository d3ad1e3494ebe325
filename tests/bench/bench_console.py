# SPDX-License-Identifier: Apache-2.0
"""The console with a thousand machines, in Debian's Chromium against a real hub: first page usable, scrolling, filtering. The machines are
those of `leeward up --simulate`, and go on reporting while it is measured."""
import json
import os
import statistics
import subprocess
import sys

import harness
from figure import figure

sys.path.insert(0, os.path.join(harness.ROOT, "tests/e2e/browser"))
import console_site  # noqa: E402

MACHINES = 1000


def measure(options):
    console_site.install_packages()
    site = harness.Site("--no-agent", "--simulate", str(MACHINES), "--log-level", "warn", wait=False)
    harness.wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the hub", 120)
    site.load_env()
    harness.wait_until(lambda: site.cli("status")["machines"]["protected"] >= MACHINES * 85 // 100, "the fleet to be protected", 900, 3.0)
    result = subprocess.run([console_site.node(), os.path.join(harness.ROOT, "tests/bench/console_load.mjs")], stdout=subprocess.PIPE, text=True, check=True,
                            env=dict(os.environ, LEEWARD_URL=site.env["LEEWARD_URL"], LEEWARD_ARTEFACTS=harness.fresh("artefacts"), LEEWARD_USERNAME="admin",
                                     LEEWARD_FIRST_PASSWORD=console_site.first_password(site), LEEWARD_ROUNDS=str(options.rounds)), timeout=900)
    rounds = json.loads(result.stdout.splitlines()[-1])
    median = lambda name: statistics.median(r[name] for r in rounds)
    shown = {"machines": MACHINES, "rounds": rounds}
    figure("console.first_page_s", median("first_page_ms") / 1000, "s until the first page shows its numbers, nothing cached", "<= 1", leeward=shown)
    figure("console.scroll_stall_ms", median("scroll_task_ms"), f"ms, longest task while {MACHINES} rows are scrolled", "<= 100", leeward=shown)
    figure("console.filter_stall_ms", median("filter_task_ms"), f"ms, longest task while {MACHINES} rows are filtered by typing", "<= 100", leeward=shown)
    figure("console.rows_in_document", median("rows_in_document"), f"rows of {MACHINES} that are in the document at most", "<= 100", leeward=shown)
    site.stop()
