#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`leeward bench`: it measures what is really there, says why where it cannot, and leaves nothing behind, also when it is interrupted."""
import os
import re
import signal
import subprocess

from harness import BIN, MIB, Disk, Site, check, main, note, test, wait_until

DATA_BYTES = 24 * MIB


def open_exports(site):
    return [e for e in site.items("point", "opened", "--all") if e["state"] in ("open", "opening", "closing")]


def nothing_is_left(site):
    left = open_exports(site)
    check(not left, f"still open: {left}")
    check(not site.items("branch", "list"), "a branch was left behind")
    check(not [p for p in site.items("point", "list", site.machine()["id"], "--all") if p["tag"]], "a point with a tag was left behind")


def jobs_of(site, kind):
    return [j for j in site.items("job", "list") if j["kind"] == kind]


def measures_all_of_it(site, name):
    policy = site.items("policy", "list")
    asked = len(jobs_of(site, "point_create"))
    found = site.cli("bench", name, "--rounds", "3", "--read-time", "1s")
    check(found["machine"] == name and found["hub"] == site.env["LEEWARD_URL"], found)
    check(found["api"]["count"] == 200, f"requests: {found['api']}")
    check(found["point"]["count"] == 3 and len(jobs_of(site, "point_create")) == asked + 3, f"points: {found['point']}")
    check(found["open"]["count"] == 3, f"opened: {found['open']}")
    for part in ("api", "point", "open", "random_read"):
        one = found[part]
        check(0 < one["p50_seconds"] <= one["p99_seconds"] <= one["slowest_seconds"], f"{part}: {one}")
    check(found["disk_bytes"] == 48 * MIB, f"the disk is {found['disk_bytes']} bytes")
    # What was written, in whole records: the rest of the disk is a hole and is not read.
    check(DATA_BYTES <= found["data_bytes"] <= DATA_BYTES + 4 * MIB, f"{found['data_bytes']} bytes of data")
    read = found["random_read"]
    check(read["block_bytes"] == 4096 and read["depth"] == 8 and read["reads_per_second"] > 0, read)
    check(found["sequential_read"]["bytes"] == found["data_bytes"], f"not all was read: {found['sequential_read']} of {found['data_bytes']}")
    check(found["sequential_read"]["bytes_per_second"] > 0, found["sequential_read"])
    check([dict(p, etag=None) for p in site.items("policy", "list")] == [dict(p, etag=None) for p in policy], "a policy is another one now")
    nothing_is_left(site)


def prints_a_table(site, name):
    shown = site.cli_result("bench", name, "--rounds", "1", "--read-time", "100ms")
    check(shown.returncode == 0 and shown.stderr == "", f"exit {shown.returncode}: {shown.stderr}")
    head, *rows = shown.stdout.split("\n\n", 1)[1].splitlines()
    check(len(rows) == 5, shown.stdout)
    place = head.index("WHAT IT IS")
    check(all(row[place - 1] == " " and row[place] != " " for row in rows), f"the columns do not stand below each other:\n{shown.stdout}")
    check(all(re.search(r"\d (ms|s)\b|/s\b", row) for row in rows), shown.stdout)
    alone = site.cli("bench")
    check(set(alone) == {"hub", "api"}, f"without a machine: {alone}")


def interrupted(site, name, words, until):
    """Ctrl-C once `until` holds."""
    process = subprocess.Popen([os.path.join(BIN, "leeward"), "bench", name, *words], env=site.env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until(until, "bench to be in the middle", 60, 0.02)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    check(process.returncode == 1 and "interrupted" in said, f"exit {process.returncode}: {said}")
    check("API request" in out, f"what was measured is not told: {out}")
    nothing_is_left(site)


def leaves_nothing_when_it_is_interrupted(site, name):
    interrupted(site, name, ["--rounds", "1", "--read-time", "1h"], lambda: open_exports(site))
    asked = len(jobs_of(site, "point_open"))
    interrupted(site, name, ["--rounds", "500", "--read-time", "1h"], lambda: len(jobs_of(site, "point_create")) > 8)
    check(len(jobs_of(site, "point_open")) == asked, "it went on after it was interrupted")


def folder_of_sockets(site, name):
    """Where the vault's sockets lie: in its own folder, or elsewhere where the path of that is too long for one."""
    opened = site.cli("point", "open", name)
    site.cli("point", "close", opened["id"])
    return os.path.dirname(re.search(r"socket=([^&]+)", opened["uri"])[1])


def says_when_the_socket_is_not_here(site, name):
    """As on another host: what the vault's sockets lie in is not there, in a mount namespace of the command alone."""
    sockets = folder_of_sockets(site, name)
    hidden = f'mount -t tmpfs none "{sockets}" && exec "{os.path.join(BIN, "leeward")}" bench "{name}" --rounds 1'
    result = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", hidden], env=site.env, capture_output=True,
                            text=True, timeout=300)
    check(result.returncode == 1, f"exit {result.returncode}: {result.stderr}")
    for words in ("cannot be reached from here", "vault's host"):
        check(words in result.stderr, f"it does not say \"{words}\": {result.stderr}")
    check("recovery point" in result.stdout, f"what could be measured is not told: {result.stdout}")
    nothing_is_left(site)


@test
def bench_measures_and_leaves_nothing_behind():
    disk = Disk(48 * MIB)
    with open(disk.device, "r+b") as f:
        f.write(os.urandom(DATA_BYTES))
        os.fsync(f.fileno())
    site = Site()
    name = site.machine()["name"]
    for status, words, command in ((3, "no machine", ["bench", "nobody"]), (3, "no recovery point", ["bench", name]),
                                   (2, "--rounds", ["bench", name, "--rounds", "0"]), (2, "--read-time", ["bench", "--read-time", "0s"])):
        result = site.cli_result(*command)
        check(result.returncode == status and words in result.stderr, f"{command}: exit {result.returncode}: {result.stderr}")
    site.protect(disk)
    for step in (measures_all_of_it, prints_a_table, leaves_nothing_when_it_is_interrupted, says_when_the_socket_is_not_here):
        note(step.__name__)
        step(site, name)


if __name__ == "__main__":
    main()
