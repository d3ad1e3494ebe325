#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A policy's pace reaches the agent: working hours in their time zone slow a copy, the table says so and how long it will take,
and without them it goes on at once. A CPU share is what the agent takes of a processor, and what is told of a copy's rate and of its end is
held to what came of it. Zones and hours that cannot be are refused."""
import os
import time

from harness import MIB, CliError, Disk, Site, check, main, note, test, wait_until

MIDNIGHT_TO_MIDNIGHT = "daily 00:00-24:00"
CPU_PERCENT = 10
CPU_SLACK_PERCENT = 3  # what is used and not paid for yet, at both ends of what is looked at
CPU_SECONDS = 10
RATE = 4 * MIB
COMPARING_CPU_PERCENT = 1
TOLD_IN_TIME_S = 5  # of the copy's end: what is told is some seconds old


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


def cpu_seconds(pid):
    """What all threads of the process have used, those that have ended, too."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@test
def a_cpu_share_is_kept():
    disk = Disk(768 * MIB)
    disk.fill_all()
    site = Site()
    site.cli("policy", "set", "default", "--cpu-limit", CPU_PERCENT)
    site.protect(disk, wait=False)
    wait_until(lambda: site.machine()["slowed_by"] == "CPU share", "the share of a processor to slow the copy", 60, 0.3)
    pid = site.pid_of("agent")
    begin, used = time.monotonic(), cpu_seconds(pid)
    time.sleep(CPU_SECONDS)  # the time over which the share is measured
    used, seconds = cpu_seconds(pid) - used, time.monotonic() - begin
    shown = site.machine()
    percent = 100 * used / seconds
    note(f"{percent:.1f} % of a processor in {seconds:.1f} s, at {shown['throughput_bytes_per_second'] / MIB:.1f} MiB/s")
    check(shown["state"] == "initial_replication", f"the copy was over before it was looked at: {shown['state']}")
    check(shown["slowed_by"] == "CPU share", f"slowed by {shown['slowed_by']!r}")
    check(percent <= CPU_PERCENT + CPU_SLACK_PERCENT, f"{percent:.1f} % of a processor, and {CPU_PERCENT} are allowed")
    check(percent >= CPU_PERCENT / 3, f"{percent:.1f} % of a processor: it was not the share that slowed it")


def watch(site, state):
    """What was told of a copy, and when, from its beginning to its end; the moments are of this clock."""
    wait_until(lambda: site.machine()["state"] == state, f"{state} to begin", 60, 0.1)
    begin, told = time.monotonic(), []
    while True:
        moment, shown = time.monotonic(), site.machine()
        if shown["state"] != state:
            return begin, moment, told
        told.append((moment, shown))
        check(moment < begin + 300, f"{state} does not end")
        time.sleep(0.3)


def check_told(site, state, rate=None):
    """Once a third of it is over, what is told of the time that is left is between half and twice of what it was, and its rate is within 30 % of `rate`."""
    begin, end, told = watch(site, state)
    told = [(at, shown) for at, shown in told if begin + (end - begin) / 3 <= at <= end - TOLD_IN_TIME_S]
    lines = [f"{end - at:.1f} s before its end {shown['remaining_seconds']:.1f} s were told, at {shown['throughput_bytes_per_second'] / MIB:.2f} MiB/s"
             for at, shown in told]
    note(f"{state} took {end - begin:.1f} s;", *lines[::8])
    check(len(told) >= 10, f"{state} took {end - begin:.1f} s: too short to say anything")
    for (at, shown), line in zip(told, lines):
        check((end - at) / 2 <= shown["remaining_seconds"] <= 2 * (end - at), f"{state}: {line}")
        if rate:
            check(0.7 * rate <= shown["throughput_bytes_per_second"] <= 1.3 * rate, f"{state}: {line}, and its rate was {rate / MIB:.2f} MiB/s")


@test
def what_is_told_of_a_copy_is_what_comes_of_it():
    disk = Disk(96 * MIB)
    disk.fill_all()
    site = Site()
    site.cli("policy", "set", "default", "--throttle", RATE)
    site.protect(disk, wait=False)
    check_told(site, "initial_replication", RATE)


@test
def what_is_told_of_a_comparison_is_what_comes_of_it():
    """It sends next to nothing: how far it is, is told by what was read of the disk. A share of a processor makes it take long enough to be watched."""
    disk = Disk(768 * MIB)
    disk.fill_all()
    site = Site()
    site.protect(disk)
    site.cli("policy", "set", "default", "--cpu-limit", COMPARING_CPU_PERCENT)
    site.cli("machine", "resync", site.machine()["name"], "--no-wait")
    check_told(site, "resynchronizing")


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
