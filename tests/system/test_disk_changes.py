#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks of a machine while its protection goes on: one more, one less, the same one again, and larger ones.

Every verdict is a comparison of whole disks: the point that is opened holds what the disks held, byte for byte.
"""
import os

from harness import MIB, CliError, Disk, Site, check, image_of, main, note, run, test, wait_until


class Scene:
    """A machine of which the first of two disks is protected."""

    def __init__(self):
        self.first, self.second = Disk(24 * MIB, name="first"), Disk(24 * MIB, name="second")
        self.first.fill_random(400, seed=1)
        self.second.fill_random(400, seed=2)
        self.site = Site()
        self.name = self.site.machine()["name"]
        self.site.protect(self.first)
        self.site.disk_key(self.second)

    def row(self, disk):
        return next(d for d in self.site.items("disk", "list", self.name, "--all") if d["device"] == disk.device)

    def disk(self, verb, *arguments):
        return self.site.cli("disk", verb, self.name, *arguments, timeout=400)

    def holds(self, sequence, *disks):
        """The point has these disks and no others, as they are now."""
        export = self.site.open(sequence)
        numbers = {self.row(d)["number"]: d for d in disks}
        check(set(export.uris) == set(numbers), f"point {sequence} has the disks {sorted(export.uris)}, not {sorted(numbers)}")
        for number, disk in numbers.items():
            check(image_of(export.copy(number)) == image_of(disk.device), f"point {sequence} does not hold {disk.path}")
        export.close()
        note("point", sequence, "holds", [d.path for d in disks])

    def settled(self):
        return self.site.settled_point()["sequence"]

    def refused(self, words, status, *command):
        try:
            self.site.cli(*command)
        except CliError as e:
            check(e.status == status and words in e.text, f"{command}: exit {e.status}: {e.text}")
            return
        check(False, f"{command} was not refused")


def a_disk_is_added(scene):
    scene.holds(scene.settled(), scene.first)
    scene.refused("unprotect", 4, "disk", "exclude", scene.name, scene.first.device)
    scene.refused("already", 4, "disk", "add", scene.name, scene.first.device)
    scene.refused("not protected", 4, "disk", "exclude", scene.name, scene.second.device)
    scene.refused("no disk", 3, "disk", "add", scene.name, "/dev/nowhere")
    job = scene.disk("add", scene.second.device)
    check(job["status"] == "succeeded" and job["result"]["protected_disks"] == 2, job)
    check(scene.site.machine()["protected_disk_count"] == 2, "the machine counts its disks wrong")
    scene.holds(scene.settled(), scene.first, scene.second)


def a_disk_is_excluded_and_comes_back(scene):
    before = scene.settled()
    number = scene.row(scene.second)["number"]
    job = scene.disk("exclude", scene.second.device)
    check(job["status"] == "succeeded" and job["result"]["protected_disks"] == 1, job)
    scene.holds(before, scene.first, scene.second)
    check(not scene.row(scene.second)["protected"], "it is still called protected")
    scene.first.fill_random(50, seed=3)
    scene.holds(scene.settled(), scene.first)
    # Once more, with content that is zero where it was not: what the vault still has of it must not shine through.
    with open(scene.second.device, "r+b") as f:
        f.write(bytes(8 * MIB))
        os.fsync(f.fileno())
    scene.second.fill_random(50, seed=4)
    scene.disk("add", scene.second.device)
    check(scene.row(scene.second)["number"] == number, "the disk has another number now")
    scene.holds(scene.settled(), scene.first, scene.second)


def a_disk_grows_and_nobody_tells_the_kernel(scene):
    old = scene.first.size_bytes
    check(scene.row(scene.first)["previous_size_bytes"] is None, "it grew before it grew")
    os.truncate(scene.first.path, old + 8 * MIB)  # as a LUN grows: the kernel does not know of it
    job = scene.disk("resize", scene.first.device)
    sizes = job["result"]["disks"]
    check([(int(s["before_bytes"]), int(s["size_bytes"])) for s in sizes] == [(old, old + 8 * MIB)], sizes)
    row = scene.row(scene.first)
    check((row["previous_size_bytes"], row["size_bytes"]) == (old, old + 8 * MIB) and row["resized_at"], row)
    scene.holds(int(job["result"]["sequence"]), scene.first, scene.second)
    fd = os.open(scene.first.device, os.O_WRONLY)
    os.pwrite(fd, os.urandom(MIB), old + 4 * MIB)
    os.fsync(fd)
    os.close(fd)
    scene.holds(scene.settled(), scene.first, scene.second)
    text = scene.site.cli_result("disk", "resize", scene.name).stdout
    check("32.0 MiB" in text and "24.0 MiB" in text and scene.second.device in text, text)


def a_disk_grows_and_the_kernel_knows(scene):
    size = scene.second.size_bytes + 4 * MIB
    os.truncate(scene.second.path, size)
    run("losetup", "--set-capacity", scene.second.device)
    wait_until(lambda: scene.row(scene.second)["size_bytes"] == size, "the hub to hear of the new size", 60)
    scene.holds(scene.settled(), scene.first, scene.second)
    check(any(e["code"] == "disk_resized" for e in scene.site.items("event", "list")), "there is no event of it")
    scene.site.cli("machine", "unprotect", scene.name)
    scene.refused("unprotected", 4, "disk", "resize", scene.name, scene.second.device)
    scene.refused("unprotected", 4, "disk", "add", scene.name, scene.second.device)


@test
def disks_come_go_and_grow_while_the_machine_stays_protected():
    scene = Scene()
    for step in (a_disk_is_added, a_disk_is_excluded_and_comes_back, a_disk_grows_and_nobody_tells_the_kernel, a_disk_grows_and_the_kernel_knows):
        note(step.__name__)
        step(scene)


if __name__ == "__main__":
    main()
