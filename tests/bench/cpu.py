# SPDX-License-Identifier: Apache-2.0
"""Processor time of the daemons of a site. On a machine that others use too it says more than a clock on the wall."""
import os
import resource

TICK = os.sysconf("SC_CLK_TCK")


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as f:
            for child in map(int, f.read().split()):
                found += [child, *children(child)]
    return found


def of_process(pid):
    """Its name, and the seconds that it spent in user and kernel mode."""
    with open(f"/proc/{pid}/stat") as f:
        head, rest = f.read().rsplit(")", 1)
    fields = rest.split()
    return head.split("(", 1)[1], (int(fields[11]) + int(fields[12])) / TICK


def of_daemons(pid):
    """Seconds so far by daemon, for everything below this process: {"agent": 1.2, "node": ...}."""
    seconds = {}
    for child in children(pid):
        try:
            name, spent = of_process(child)
        except OSError:  # it has ended
            continue
        name = name.removeprefix("leeward-")
        seconds[name] = seconds.get(name, 0) + spent
    return seconds


def difference(before, after):
    return {name: round(spent - before.get(name, 0), 2) for name, spent in after.items() if spent - before.get(name, 0) >= 0.05}


def of_ended_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
