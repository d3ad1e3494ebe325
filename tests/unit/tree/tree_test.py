#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the source tree to ARCHITECTURE's table of include edges and to the rules on names.

One line per broken rule, `path:line: what`; exit status 1 when there is any. Every rule is first tried on a made-up file
that breaks it, so that a rule which no longer bites fails too.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))

GROUND = ["transport/base"]
RPC = ["transport/rpc", "transport/loop", *GROUND]
MEETING = ["transport/proto", "transport/log", *RPC]
# Folder -> folders that it may include (and always itself). The longest matching prefix decides.
EDGES = {
    "transport/base": [],
    "transport/loop": GROUND,
    "transport/rpc": ["transport/loop", *GROUND],
    "transport/proto": RPC,
    "transport/log": GROUND,
    "transport/node": MEETING,
    "transport/vault": MEETING,
    "mobility": MEETING,
    "hub/core": GROUND,
    "hub/db": ["hub/core", *MEETING],
    "hub/fixup": ["hub/core", *GROUND],
    "hub/notify": ["hub/db", "hub/core", *GROUND],
    "hub": ["hub", *MEETING],
    "hub/fleet": MEETING,
    "webui": ["hub/api", *GROUND],
    "tests": [""],
}
# Library header -> the only folders that may include it.
LIBRARIES = {
    "libpq-fe.h": ["hub/db", "tests"],
    "microhttpd.h": ["hub/api", "transport/node", "tests"],
    "nghttp2/nghttp2.h": ["transport/rpc", "tests"],
    "confuse.h": ["transport/base"],
    "curl/curl.h": ["hub/notify", "hub/cli", "hub/api", "hub/fabric", "transport/vault", "tests"],
    "xxhash.h": ["transport/base"],
}
# The pure domain has no SQL, HTTP, sockets or clock.
CORE_FORBIDDEN = re.compile(r"\b(clock_mono_usec|clock_utc_usec|gettimeofday|clock_gettime|socket)\s*\(")
VAGUE = re.compile(r"^(utils?|common|helpers?|misc)$|_(utils?|common|misc)$|^(utils?|common|misc)_")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
GENERATED = (".pb-c.h", ".skel.h", ".inc.h", "vmlinux.h")


def within(path, folder):
    return folder == "" or path == folder or path.startswith(folder + "/")


def folder_of(path):
    found = [f for f in EDGES if within(path, f)]
    return max(found, key=len) if found else None


def edge_is_allowed(path, target):
    folder = folder_of(path)
    if folder is None:
        return False
    return any(within(target, f) for f in [folder, *EDGES[folder]])


def check_include(path, number, kind, target, exists):
    if kind == "<":
        allowed = LIBRARIES.get(target)
        if allowed and not any(within(path, f) for f in allowed):
            yield f"{path}:{number}: <{target}> belongs to {allowed[0]} alone"
        return
    if not exists(target) and not target.endswith(GENERATED):
        yield f'{path}:{number}: "{target}" is not a path from the root of the tree'
    elif "/" in target and not edge_is_allowed(path, target):
        yield f'{path}:{number}: {folder_of(path)} may not include "{target}"'


def check_file(path, text, exists):
    lines = text.split("\n")
    if not any("SPDX-License-Identifier:" in line for line in lines[:3]):
        yield f"{path}:1: no SPDX line at the top"
    for number, line in enumerate(lines, 1):
        include = INCLUDE.match(line)
        if include:
            yield from check_include(path, number, include.group(1), include.group(2), exists)
        if UNFINISHED.search(line):
            yield f"{path}:{number}: unfinished: {line.strip()[:60]}"
        if within(path, "hub/core") and CORE_FORBIDDEN.search(line):
            yield f"{path}:{number}: hub/core has no clock and no sockets"


def check_names(paths):
    seen = {}
    for path in sorted(paths):
        stem, extension = os.path.splitext(os.path.basename(path))
        if VAGUE.search(stem):
            yield f"{path}:1: the name says nothing about what is in the file"
        if stem == "main":
            continue
        other = seen.setdefault((stem, extension), path)
        if other != path:
            yield f"{path}:1: the stem is taken by {other}"
    for (stem, extension), path in sorted(seen.items()):
        header = seen.get((stem, ".h"))
        if extension == ".c" and header and os.path.dirname(header) != os.path.dirname(path):
            yield f"{path}:1: its header is elsewhere: {header}"


def source_paths():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "*.c", "*.h"], capture_output=True)
    if listed.returncode == 0 and listed.stdout:
        paths = listed.stdout.decode().split("\0")
        return [p for p in paths if p and os.path.exists(os.path.join(ROOT, p))]
    return [os.path.relpath(os.path.join(folder, name), ROOT)
            for top in ("transport", "mobility", "hub", "tests")
            for folder, _, names in os.walk(os.path.join(ROOT, top))
            for name in names if name.endswith((".c", ".h"))]


def prove_rules_bite():
    """Each of these made-up files breaks one rule, but for those that are listed as right."""
    spdx = "/* SPDX-License-Identifier: Apache-2.0 */\n"

    def broken(path, body):
        return list(check_file(path, spdx + body, lambda target: not target.startswith("no/")))

    wrong = [
        ("transport/base/x.c", '#include "transport/loop/loop.h"'),
        ("transport/loop/x.c", '#include "transport/rpc/rpc.h"'),
        ("transport/log/x.c", '#include "transport/loop/loop.h"'),
        ("transport/node/x.c", '#include "transport/vault/store.h"'),
        ("transport/vault/nbd/x.c", '#include "mobility/agent.h"'),
        ("mobility/track/x.c", '#include "hub/core/policy.h"'),
        ("hub/core/x.c", '#include "hub/db/db.h"'),
        ("hub/core/x.c", '#include "transport/loop/loop.h"'),
        ("hub/core/x.c", "uint64_t now = clock_utc_usec();"),
        ("hub/db/x.c", '#include "hub/api/api.h"'),
        ("hub/jobs/x.c", '#include "transport/vault/store.h"'),
        ("hub/jobs/x.c", "#include <libpq-fe.h>"),
        ("hub/notify/x.c", '#include "hub/api/api.h"'),
        ("hub/control/x.c", "#include <curl/curl.h>"),
        ("hub/control/x.c", "#include <microhttpd.h>"),
        ("hub/fleet/x.c", '#include "hub/db/db.h"'),
        ("mobility/x.c", '#include "no/such.h"'),
        ("mobility/x.c", "/* " + "TO" + "DO: later */"),
    ]
    right = [
        ("transport/vault/nbd/x.c", '#include "transport/vault/store.h"'),
        ("transport/proto/x.c", '#include "transport/proto/control.pb-c.h"'),
        ("hub/jobs/x.c", '#include "hub/db/db.h"'),
        ("hub/db/x.c", "#include <libpq-fe.h>"),
        ("tests/unit/x.c", '#include "transport/vault/store.h"'),
        ("mobility/sync/x.c", '#include "transport/log/record.h"'),
    ]
    for path, body in wrong:
        if len(broken(path, body)) != 1:
            yield f"{path}: the rule against this no longer bites: {body}"
    for path, body in right:
        for text in broken(path, body):
            yield f"refused though right: {text}"
    if len(list(check_names(["a/x.c", "b/x.c"]))) != 1 or len(list(check_names(["a/my_utils.c"]))) != 1 or \
            list(check_names(["a/x.c", "a/x.h", "b/main.c", "c/main.c"])):
        yield "the rules on names no longer bite"


def main():
    paths = source_paths()
    problems = list(prove_rules_bite()) + list(check_names(paths))
    if len(paths) < 20:
        problems.append(f"only {len(paths)} source files were found in {ROOT}")
    for path in paths:
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            text = f.read()
        problems += check_file(path, text, lambda target: os.path.exists(os.path.join(ROOT, target)))
    for problem in problems:
        print(problem)
    print(f"{len(paths)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
