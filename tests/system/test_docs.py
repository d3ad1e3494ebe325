#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The references in docs/ are what the programs say of themselves, and every file that the documents point to is there."""
import os
import re
import sys

from harness import BIN, ROOT, check, main, run, test

DAEMONS = ("hub", "node", "vault", "agent")


def configuration():
    parts = [run(os.path.join(BIN, f"leeward-{d}"), "--help-markdown").replace("# ", "## ", 1) for d in DAEMONS]
    return ("# Configuration\n\nMade from the daemons' own tables by `tests/system/test_docs.py --write`; do not edit. Each key is an option\n"
            "(`--key VALUE`), a line of the file of `--config` (`key = value`), and a variable (`LEEWARD_KEY`, dashes as underscores); the\n"
            "first of these that is given counts. A secret can be given as `--key-file PATH`.\n\n" + "\n".join(parts))


def documents():
    yield os.path.join(ROOT, "README.md")
    for name in sorted(os.listdir(os.path.join(ROOT, "docs"))):
        if name.endswith(".md"):
            yield os.path.join(ROOT, "docs", name)


@test
def configuration_reference_is_up_to_date():
    with open(os.path.join(ROOT, "docs", "configuration.md")) as f:
        check(f.read() == configuration(), "write it anew: tests/system/test_docs.py --write")


@test
def command_reference_is_up_to_date():
    with open(os.path.join(ROOT, "docs", "cli.md")) as f:
        check(f.read() == run(os.path.join(BIN, "leeward"), "help", "--markdown"), "leeward help --markdown > docs/cli.md")


@test
def links_lead_somewhere():
    for path in documents():
        with open(path) as f:
            targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", f.read())
        for target in targets:
            check(os.path.exists(os.path.join(os.path.dirname(path), target)), f"{os.path.basename(path)} points to {target}")


if __name__ == "__main__":
    if "--write" in sys.argv:
        with open(os.path.join(ROOT, "docs", "configuration.md"), "w") as f:
            f.write(configuration())
        sys.exit(0)
    main()
