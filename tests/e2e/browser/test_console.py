#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The console in a real browser against a real site: pages.mjs has the tests."""
import json
import sys
import traceback

from console_site import ConsoleSite, first_password, in_own_network, install_packages, undo_everything

try:
    install_packages()
    in_own_network()
    site = ConsoleSite()
    status = site.browse("pages.mjs", LEEWARD_USERNAME=site.USERNAME, LEEWARD_FIRST_PASSWORD=first_password(site),
                         LEEWARD_PASSWORD=site.PASSWORD, LEEWARD_MACHINE=json.dumps(site.machine()))
except Exception as problem:
    traceback.print_exc()
    print(f"FAIL console: {' '.join(str(problem).split())[:500]}", flush=True)
    status = 1
undo_everything()
sys.exit(status)
