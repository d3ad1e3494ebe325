#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two protected disks of one machine stay consistent with each other.

A ledger writes record n to one disk and, once that is durable, record n + 1 to the other. In every point the two disks
together hold an unbroken prefix: a point that had read one disk a little later than the other would show a hole.
"""
from harness import MIB, Disk, Site, main, note, point_time, test, wait_until
from ledger import Ledger


@test
def alternating_ledger_has_no_hole_in_any_point():
    disks = [Disk(48 * MIB, name="left"), Disk(48 * MIB, name="right")]
    site = Site()
    ledger = Ledger([d.device for d in disks], 512)
    site.protect(*disks)
    numbers = numbers_of(site, disks)
    judged = set()
    while len(judged) < 8:
        def new_points():
            return [p for p in site.points() if p["sequence"] not in judged]
        point = wait_until(new_points, "a new point", 60)[0]
        judged.add(point["sequence"])
        export = site.open(point["sequence"])
        copies = [export.copy(n) for n in numbers]
        last = ledger.judge(copies, point_time(point))
        export.close()
        note("point", point["sequence"], point["kind"], "holds the ledger up to", last)
    ledger.stop()


def numbers_of(site, disks):
    shown = {d["device"]: d["number"] for d in site.items("disk", "list", site.machine()["id"])}
    return [shown[d.device] for d in disks]


if __name__ == "__main__":
    main()
