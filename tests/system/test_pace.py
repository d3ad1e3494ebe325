#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A policy's pace reaches the agent: working hours in their time zone slow a copy, the table says so and how long it will take,
and without them it goes on at once. Zones and hours that cannot be are refused."""
from harness import MIB, CliError, Disk, Site, check, main, note, test, wait_until

MIDNIGHT_TO_MIDNIGHT = "daily 00:00-24:00"


@test
def working_hours_slow_a_copy_and_their_end_lets_it_go():
    disk = Disk(256 * MIB)
    disk.fill_random(64, block_bytes=MIB)
    site = Site()
    site.cli("policy", "set", "default", "--work-hours", MIDNIGHT_TO_MIDNIGHT, "--time-zone", "Asia/Shanghai", "--work-throttle",
             512 * 1024)
    site.protect(disk, wait=False)
    slow = wait_until(lambda: site.machine()["slowed_by"] == "working hours" and site.machine()["remaining_seconds"] > 20
                      and site.machine(), "the copy to be slow", 60, 0.3)
    note("throughput", slow["throughput_bytes_per_second"], "remaining", slow["remaining_seconds"])
    check(slow["state"] == "initial_replication", f"the copy is over: {slow['state']}")
    site.cli("policy", "set", "default", "--work-hours", "")
    site.wait_protected(120)
    wait_until(lambda: site.machine()["remaining_seconds"] == 0, "nothing to be left", 60, 0.3)


@test
def hours_and_zones_that_cannot_be_are_refused():
    site = Site()
    for options, word in ((["--work-hours", "mon 8-18", "--work-throttle", "100000"], "work_hours"),
                          (["--work-hours", MIDNIGHT_TO_MIDNIGHT], "throttle"),
                          (["--time-zone", "Mars/Phobos"], "time zone"),
                          (["--cpu-limit", "20000"], "cpu-limit")):
        try:
            site.cli("policy", "set", "default", *options)
            check(False, f"{options} were taken")
        except CliError as problem:
            check(word in problem.text, f"{options}: {problem.text}")
    policy = site.cli("policy", "set", "default", "--cpu-limit", "50", "--yield", "no", "--fs-interval", "15m")
    check(policy["cpu_limit_percent"] == 50 and not policy["yield_to_workload"], f"not kept: {policy}")
    check(policy["filesystem_interval_seconds"] == 900, f"not kept: {policy}")


if __name__ == "__main__":
    main()
