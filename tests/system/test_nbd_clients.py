#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stock NBD clients on an opened point, branches that are written to, and `leeward export`."""
import json
import os

from harness import MIB, CliError, Disk, Site, check, fresh, image_of, main, run, test


def protected_site():
    disk = Disk(96 * MIB)
    disk.fill_random(800)
    site = Site()
    site.protect(disk)
    return site, disk, site.settled_point()


@test
def stock_clients_read_a_point():
    site, disk, point = protected_site()
    export = site.open(point["sequence"])
    shown = json.loads(run("nbdinfo", "--json", export.uri()))["exports"][0]
    check(shown["export-size"] == disk.size_bytes, f"nbdinfo says {shown['export-size']} bytes")
    check(shown["is_read_only"], "nbdinfo says that a point can be written to")
    copy = fresh("copy.img")
    run("nbdcopy", export.uri(), copy)
    check(image_of(copy) == image_of(disk.device), "nbdcopy read something else than the disk")
    said = run("qemu-img", "compare", "-f", "raw", "-F", "raw", export.uri(), disk.device)
    check("identical" in said, said)
    # Block status: what was never written reads as a hole, so that a copy of the point is sparse.
    extents = json.loads(run("nbdinfo", "--map", "--json", export.uri()))
    check(any(e["type"] & 2 for e in extents), "no hole in a disk that is mostly empty")
    export.close()


@test
def point_cannot_be_written_to():
    site, _, point = protected_site()
    export = site.open(point["sequence"])
    said = run("qemu-io", "-f", "raw", "-c", "write -P 7 0 4096", export.uri(), ok=None)
    check("wrote 4096" not in said, "a write to a read-only point succeeded")


@test
def branch_takes_writes_and_nobody_else_sees_them():
    site, disk, point = protected_site()
    before = image_of(disk.device)
    one, two = site.open(point["sequence"], write=True), site.open(point["sequence"], write=True)
    reader = site.open(point["sequence"])
    said = run("qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", "-c", "write -P 9 4096 512", "-c", "discard 8M 1M", "-c", "flush",
               "-c", "read -P 7 1M 64k", "-c", "read -P 9 4096 512", one.uri())
    check("Pattern verification failed" not in said, said)
    check(image_of(two.copy()) == before, "one branch sees what was written to another")
    check(image_of(reader.copy()) == before, "a point sees what was written to a branch")
    check(image_of(disk.device) == before, "the source changed")
    check(image_of(one.copy()) != before, "a branch has lost what was written to it")
    site.wait_point_after(float("-inf"))
    for export in (one, two, reader):
        export.close()


@test
def export_writes_files_of_each_format():
    site, disk, point = protected_site()
    target = f"{site.machine()['name']}@{point['sequence']}"
    number = site.items("disk", "list", site.machine()["id"])
    number = next(d["number"] for d in number if d["device"] == disk.device)
    for form in ("raw", "qcow2", "vmdk"):
        path = fresh(f"export.{form}")
        site.cli("export", target, number, path, "--format", form)
        said = run("qemu-img", "compare", "-f", form, "-F", "raw", path, disk.device)
        check("identical" in said, f"{form}: {said}")
        os.unlink(path)


@test
def point_that_is_not_there_is_a_clear_refusal():
    site, _, _ = protected_site()
    try:
        site.open(999_999_999)
    except CliError as refusal:
        check(refusal.status == 3, f"exit status {refusal.status} instead of 3: {refusal.text}")
        return
    check(False, "a point that does not exist was opened")


if __name__ == "__main__":
    main()
