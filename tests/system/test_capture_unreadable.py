#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A source disk that cannot be read for a while, through the whole of Leeward: an event tells it, each point says which of its
blocks are old, replication goes on, and when the disk can be read again the points are whole.

The disk is a loop disk on nbdfuse on nbdkit, whose error filter fails all reads while a file is there."""
import mmap
import os
import time
import types

import harness
from harness import MIB, Site, attach_loop, check, defer, fresh, image_of, main, run, start, test, wait_until

BAD_AT = 8 * MIB
BAD_BYTES = 8192


def failing_disk(switch):
    folder, socket = fresh("nbdfuse"), fresh("nbdkit.sock")
    os.mkdir(folder)
    file = os.path.join(folder, "disk")
    start(["nbdkit", "--foreground", "--exit-with-parent", "-U", socket, "--filter=error", "memory", str(32 * MIB), "error-pread=EIO",
           "error-pread-rate=100%", f"error-pread-file={switch}"], log=socket + ".log")
    wait_until(lambda: os.path.exists(socket), "nbdkit to listen", 20)
    start(["nbdfuse", file, f"nbd+unix:///?socket={socket}"], log=folder + ".log")
    wait_until(lambda: os.path.exists(file) and os.path.getsize(file), "nbdfuse to serve the disk", 20)
    defer(run, "fusermount3", "-u", "-z", folder)
    return types.SimpleNamespace(device=attach_loop(file, "--direct-io=on")[0])


def write(disk, at, length, byte):
    data = mmap.mmap(-1, length)
    data.write(bytes([byte]) * length)
    fd = os.open(disk.device, os.O_WRONLY | os.O_DIRECT)
    os.pwrite(fd, data, at)
    os.close(fd)


def newest_with(site, blocks):
    def found():
        point = site.latest()
        return point if point["unreadable_blocks"] == blocks else None
    return wait_until(found, f"a point with {blocks} unreadable blocks", 60, 0.3)


def shown(site, point):
    return site.cli("point", "show", f"{site.machine()['name']}@{point['sequence']}")


def check_ranges(site, disk, point):
    """By disk and place, and what to do: for programs and for people."""
    one = shown(site, point)
    ranges = one["unreadable_ranges"]
    check(one["unreadable_unlisted_blocks"] == 0 and len(ranges) == 1, f"the point lists {ranges}")
    check((ranges[0]["start_bytes"], ranges[0]["length_bytes"]) == (BAD_AT, BAD_BYTES), f"the point lists {ranges}")
    known = [d for d in site.items("disk", "list", site.machine()["name"]) if d["number"] == ranges[0]["disk"]]
    check(len(known) == 1 and (known[0]["key"], known[0]["device"]) == (ranges[0]["disk_key"], ranges[0]["device"]) and
          ranges[0]["device"] == disk.device, f"{ranges} is not of {disk.device}, {known}")
    text = site.cli_result("point", "show", f"{site.machine()['name']}@{point['sequence']}").stdout
    check(any(disk.device in line and str(BAD_AT) in line and str(BAD_BYTES) in line for line in text.splitlines()), text)
    check("Replace the disk" in text, text)


def codes(site):
    return [e["code"] for e in site.items("event", "list", "--limit", "200")]


@test
def points_say_what_could_not_be_read_until_it_can_be():
    switch = fresh("fail")
    disk = failing_disk(switch)
    site = Site()
    site.protect(disk)
    check(site.latest()["unreadable_blocks"] == 0, "a good disk has unreadable blocks")
    write(disk, 0, 65536, 0x11)
    site.wait_point_after(time.time())
    open(switch, "w").close()
    write(disk, BAD_AT, BAD_BYTES, 0x22)
    bad = newest_with(site, BAD_BYTES // 4096)
    later = site.wait_point_after(harness.point_time(bad) + 0.001)
    check(later["unreadable_blocks"] == BAD_BYTES // 4096, "a later point forgot the unreadable blocks")
    check_ranges(site, disk, bad)
    check_ranges(site, disk, later)
    wait_until(lambda: "unreadable_blocks" in codes(site), "the event of unreadable blocks", 30)
    os.unlink(switch)
    write(disk, 16 * MIB, 65536, 0x33)
    wait_until(lambda: "readable_again" in codes(site), "the event of readable blocks", 60)
    whole = newest_with(site, 0)
    check(shown(site, whole)["unreadable_ranges"] == [], "a whole point lists ranges")
    check_ranges(site, disk, bad)
    whole = site.wait_point_after(harness.point_time(whole) + 0.001)
    export = site.open(whole["sequence"])
    check(image_of(export.copy()) == image_of(disk.device), "the point is not the disk")
    export.close()


if __name__ == "__main__":
    main()
