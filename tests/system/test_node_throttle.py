#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a node may send to vaults: a limit that is set in the hub reaches it and is kept, a first copy under it leaves another machine
its points, hours have a limit of their own, and limits that cannot be are refused.

Whether the limit is kept is read from the node's own counters: bytes sent while it held over the time for which it held. A machine that is busy
makes that less, never more.
"""
import os
import urllib.request

from fleet import Fleet
from harness import MIB, CliError, check, free_port_base, main, note, test, wait_until
from node_site import site_node

LIMIT = 1 << 20
COPY = 16 * MIB


class Limited:
    def __init__(self):
        self.port = free_port_base(1)
        self.fleet = Fleet(2, ("--compress-level", 0, "--freeze-budget", "2s"), node_options=("--probe-listen", f"127.0.0.1:{self.port}"))
        self.site = self.fleet.site
        self.node = site_node(self.site)

    def figure(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        raise KeyError(name)

    def set(self, *options):
        return self.site.cli("node", "set", self.node, *options)

    def wait_limit(self, expected):
        wait_until(lambda: self.figure("leeward_node_throttle_bytes_per_second") == expected, f"a limit of {expected} at the node", 60)

    def protect(self, machine):
        wait_until(lambda: len(self.site.items("machine", "list")) == 2, "both agents to enrol", 90, 0.3)
        machine.protect("fleet")

    def state(self, machine):
        return machine.shown()["state"]

    def newest(self, machine):
        return max((int(p["sequence"]) for p in self.site.items("point", "list", machine.name)), default=0)


def write_file(machine, name, size):
    path = os.path.join(machine.mount_point, name)
    with open(path, "wb") as f:
        f.write(os.urandom(size))
        os.fsync(f.fileno())


@test
def a_first_copy_on_a_narrow_line_leaves_others_their_points():
    limited = Limited()
    steady, copied = limited.fleet.machines
    write_file(copied, "content", COPY)
    limited.protect(steady)
    wait_until(lambda: limited.state(steady) == "protected", "the first machine to be protected", 180, 0.5)
    limited.set("--throttle", LIMIT)
    limited.wait_limit(LIMIT)
    limited.protect(copied)
    wait_until(lambda: limited.state(copied) == "initial_replication", "the copy to begin", 120, 0.1)
    first, points = limited.newest(steady), 0
    for _ in range(2000):
        write_file(steady, "churn", 8 << 10)
        if limited.state(copied) == "protected":
            break
        points = limited.newest(steady) - first
    note("points of the other machine during the copy:", points)
    sent = limited.figure("leeward_node_throttled_bytes_total")
    seconds = limited.figure("leeward_node_throttled_seconds_total")  # behind it: the other way round, time would be missing
    note(f"{sent / MIB:.1f} MiB in {seconds:.1f} s, {100 * sent / seconds / LIMIT:.1f} % of the limit")
    check(sent >= COPY, "the copy did not go through the limit")
    check(sent <= 1.1 * LIMIT * seconds, "more was sent than the limit allows")
    check(points >= 5, f"{points} points in a copy of at least {COPY // LIMIT} s")
    limited.set("--throttle", 0)
    limited.wait_limit(0)
    for machine in (steady, copied):
        before = limited.newest(machine)
        write_file(machine, "after", 4096)
        wait_until(lambda m=machine, b=before: limited.newest(m) > b, f"{machine.name} to go on without a limit", 60, 0.3)


@test
def hours_have_a_limit_of_their_own_and_bad_limits_are_refused():
    limited = Limited()
    shown = limited.set("--throttle", 8 * LIMIT, "--work-hours", "daily 00:00-24:00", "--work-throttle", 4 * LIMIT, "--time-zone", "Asia/Shanghai",
                        "--machine-throttle", 2 * LIMIT)
    check(shown["work_hours_time_zone"] == "Asia/Shanghai" and shown["machine_throttle_bytes_per_second"] == 2 * LIMIT, f"not kept: {shown}")
    limited.wait_limit(4 * LIMIT)
    shown = limited.set("--work-throttle", "16M")
    check(shown["work_hours"] == "daily 00:00-24:00", f"what was not given changed: {shown}")
    table = limited.site.cli_result("node", "list", "-o", "wide").stdout
    check(all(word in table for word in ("THROTTLE/S", "8.0 MiB", "2.0 MiB", "16.0 MiB", "daily 00:00-24:00")), f"the limits are not shown: {table}")
    limited.wait_limit(8 * LIMIT)
    limited.set("--work-hours", "", "--work-throttle", 0, "--throttle", 0)
    limited.wait_limit(0)
    for options, word in ((["--work-hours", "mon 8-18", "--work-throttle", LIMIT], "work_hours"), (["--work-hours", "daily 00:00-24:00"], "throttle"),
                          (["--time-zone", "Mars/Phobos"], "time zone"), (["--throttle", 1000], "65536"),
                          (["--machine-throttle", 1], "machine_throttle_bytes_per_second")):
        try:
            limited.set(*options)
            check(False, f"{options} were taken")
        except CliError as problem:
            check(word in problem.text, f"{options}: {problem.text}")
    kept = limited.site.cli("node", "show", limited.node)
    check(kept["throttle_bytes_per_second"] == 0 and kept["machine_throttle_bytes_per_second"] == 2 * LIMIT, f"a refused change left traces: {kept}")


if __name__ == "__main__":
    main()
