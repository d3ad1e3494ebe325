#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the console does for many machines at once, in a real browser with a simulated fleet: fleet.mjs has the tests."""
import json
import os
import sys
import traceback

from console_site import BrowserSite, first_password, in_own_network, install_packages, undo_everything
from harness import wait_until

MACHINES = 30  # one of 25 is not protected

try:
    install_packages()
    in_own_network()
    site = BrowserSite("--no-agent", "--simulate", str(MACHINES), wait=False)
    wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the hub", 120)
    site.load_env()
    wait_until(lambda: sum(m["state"] == "protected" for m in site.items("machine", "list")) >= MACHINES * 3 // 4, "most of the fleet to be protected", 240, 1)
    site.cli("policy", "create", "gold")
    site.cli("site", "create", "quay")
    for setting, value in (("alert_full_warning_percent", 1), ("alert_raise_after_seconds", 0)):  # every vault is an alert
        site.cli("settings", "set", setting, value)
    status = site.browse("fleet.mjs", LEEWARD_USERNAME="admin", LEEWARD_FIRST_PASSWORD=first_password(site), LEEWARD_MACHINES=str(MACHINES),
                         LEEWARD_BARE=json.dumps([m["name"] for m in site.items("machine", "list", "--filter", "state=unprotected")]))
except Exception as problem:
    traceback.print_exc()
    print(f"FAIL fleet: {' '.join(str(problem).split())[:500]}", flush=True)
    status = 1
undo_everything()
sys.exit(status)
