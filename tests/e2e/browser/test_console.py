#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The console in a real browser against a real site: pages.mjs has the tests."""
import json
import os
import sys
import traceback

from console_site import ConsoleSite, first_password, in_own_network, install_packages, undo_everything
from harness import BIN, MIB, Disk, defer, fresh, run

try:
    install_packages()
    in_own_network()
    site = ConsoleSite()
    second = Disk(24 * MIB, name="second")  # of a machine that comes while the browser looks on
    second.make_fs("ext4")
    data, instance = fresh("second"), f"console-{os.getpid()}"
    defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", instance, "--data", data)
    status = site.browse("pages.mjs", LEEWARD_BIN=BIN, LEEWARD_SECOND_DISK=second.device, LEEWARD_SECOND_DATA=data,
                         LEEWARD_SECOND_INSTANCE=instance, LEEWARD_USERNAME=site.USERNAME, LEEWARD_FIRST_PASSWORD=first_password(site),
                         LEEWARD_PASSWORD=site.PASSWORD, LEEWARD_MACHINE=json.dumps(site.machine()))
except Exception as problem:
    traceback.print_exc()
    print(f"FAIL console: {' '.join(str(problem).split())[:500]}", flush=True)
    status = 1
undo_everything()
sys.exit(status)
