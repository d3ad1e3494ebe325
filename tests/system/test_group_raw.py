#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Group points with machines whose disks cannot be frozen. A raw disk takes part by its window: the same ledger is judged over a
file system and a raw disk, and over a machine that only pretends to freeze. Where a raw writer flushes all the time there is no
such window: the group point is missed, and the reason says so."""
import os

from fleet import Fleet, file_of
from harness import check, fresh, is_frozen, main, note, point_time, run, test, wait_until
from ledger import BLOCK, Ledger

SLOTS = 512

# An agent under it believes that it freezes.
PRETENDER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/ioctl.h>
int ioctl(int fd, unsigned long request, ...)
{
    static int (*next)(int, unsigned long, void *);
    va_list ap;
    void *argument;
    va_start(ap, request);
    argument = va_arg(ap, void *);
    va_end(ap);
    if (request == FIFREEZE || request == FITHAW)
        return 0;
    if (!next)
        next = (int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, argument);
}
"""


def pretender():
    source, library = fresh("pretender.c"), fresh("pretender.so")
    with open(source, "w") as f:
        f.write(PRETENDER)
    run("cc", "-shared", "-fPIC", "-o", library, source, "-ldl")
    return library


def empty_ledger(path):
    with open(path, "r+b" if path.startswith("/dev/") else "wb") as f:
        f.write(bytes(SLOTS * BLOCK))
        f.flush()
        os.fsync(f.fileno())
    return path


@test
def what_cannot_be_frozen_is_held_by_its_window():
    fleet = Fleet(3, preload={2: pretender()})
    frozen, raw, pretends = fleet.machines
    raw.disk.unmount()
    run("wipefs", "--all", "--quiet", raw.disk.device)
    ledger = Ledger([empty_ledger(os.path.join(frozen.mount_point, "ledger")), empty_ledger(raw.disk.device)], SLOTS)
    fleet.protect()
    fleet.create_group("odd", [frozen, raw])
    last = []
    for point in fleet.wait_group_points("odd", 5)[:5]:
        parts = {p["machine_name"]: p for p in point["points"]}
        check(parts[frozen.name]["frozen"] and not parts[raw.name]["frozen"], f"frozen or not: {parts}")
        files = [file_of(fleet.image(frozen, parts[frozen.name]["sequence"]), "/ledger"), fleet.image(raw, parts[raw.name]["sequence"])]
        last.append(ledger.judge(files, min(point_time(p) for p in point["points"]), slack_s=10))
    note("records up to", sorted(last))

    # A writer that waits for nobody and flushes after each write leaves no window: on a raw disk, or under an agent that only
    # believes that it freezes.
    behind = Ledger([raw.disk.device], SLOTS, at=SLOTS * BLOCK)
    is_missed_by(fleet, raw)
    behind.stop()
    fleet.wait_group_points("odd", 1, {p["id"] for p in fleet.group_points("odd")})
    fleet.site.cli("group", "add", "odd", pretends.name)
    behind = Ledger([empty_ledger(os.path.join(pretends.mount_point, "ledger"))], SLOTS)
    is_missed_by(fleet, pretends)
    behind.stop()
    check(not is_frozen(frozen.mount_point), "a file system is frozen")


def is_missed_by(fleet, machine):
    def named():
        shown = fleet.group("odd")
        return shown["culprit_name"] == machine.name and "outside the frozen" in shown["cause"]
    wait_until(named, f"{machine.name} to be named for what writes on it", 60, 0.3)


if __name__ == "__main__":
    main()
