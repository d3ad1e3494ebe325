#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An older copy as a base. A disk is replicated and exported, is changed a little, and is protected anew, at another site, with the
export as its seed: only what differs travels, counted by the agent, and the first point is the disk byte for byte. Seeds that are none are
refused and leave the machine as it was; one of garbage costs the line and nothing else.
"""
import datetime
import os
import random
import time

from harness import MIB, CliError, Disk, Failure, Site, check, fresh, image_of, main, note, run, test, wait_until

DISK_BYTES = 96 * MIB
BLOCK = 64 << 10
CHANGED = 40
# What a compared block costs beside itself: headers, marks, and the first seconds of a point that is empty.
OVERHEAD = 256 << 10


def sent_bytes(site):
    """What the node has received since it started, as of a status that is newer than this call."""
    begin = time.time()
    def told():
        node = site.items("node", "list")[0]
        return moment_of(node["last_seen_at"]) > begin + 0.5 and int(node["received_bytes"])
    return wait_until(told, "a status of the node", 60, 0.3)


def moment_of(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def fill(disk, seed):
    """Half of it random, a quarter text, the rest as it was: holes."""
    rng = random.Random(seed)
    fd = os.open(disk.device, os.O_WRONLY)
    for at in range(0, DISK_BYTES // 2, MIB):
        os.pwrite(fd, rng.randbytes(MIB), at)
    for at in range(DISK_BYTES // 2, DISK_BYTES * 3 // 4, MIB):
        os.pwrite(fd, (b"%09d lines of text\n" % at) * (MIB // 24), at)
    os.fsync(fd)
    os.close(fd)


def change(disk, seed):
    rng = random.Random(seed)
    fd = os.open(disk.device, os.O_WRONLY)
    for number in rng.sample(range(DISK_BYTES // BLOCK), CHANGED):
        os.pwrite(fd, rng.randbytes(4096), number * BLOCK + rng.randrange(16) * 4096)
    os.fsync(fd)
    os.close(fd)


def protect(site, disk, *seeds):
    arguments = [word for path in seeds for word in ("--seed", f"{disk.device}={path}")]
    return site.cli("machine", "protect", site.machine()["id"], disk.device, *arguments, timeout=300)


def image(site):
    export = site.open()
    path = export.copy()
    export.close()
    return path


def same_as_disk(site, disk, what):
    path = image(site)
    check(image_of(path) == image_of(disk.device), f"{what}: the point is not the disk")
    os.unlink(path)


@test
def only_what_differs_travels():
    disk = Disk(DISK_BYTES)
    fill(disk, 1)
    first = Site()
    first.protect(disk)
    seed = fresh("older.img")
    first.cli("export", first.machine()["name"], "0", seed, timeout=300)
    full = sent_bytes(first)
    first.stop()
    change(disk, 2)

    second = Site()
    wait_until(lambda: second.disk_key(disk), "the disk", 60)
    job = protect(second, disk, seed)
    check(job["status"] == "succeeded", f"{job}")
    taken = int(job["result"]["taken_bytes"])
    check(taken >= DISK_BYTES // 2, f"the vault took {taken} bytes of the seed")
    second.settled_point()
    sent = sent_bytes(second)
    note(f"without a seed {full} bytes were sent, with it {sent}, for {CHANGED} changed blocks of {BLOCK}")
    check(sent <= CHANGED * BLOCK + OVERHEAD, f"{sent} bytes were sent for {CHANGED} changed blocks")
    check(full > 4 * sent, f"the full copy was {full} bytes only: this shows nothing")
    same_as_disk(second, disk, "with a seed")
    points = second.points()
    check(all("seed" not in (p["tag"] or "") for p in points), "a seed is listed as a point")


@test
def a_seed_that_is_none_does_no_harm():
    disk = Disk(DISK_BYTES)
    fill(disk, 3)
    site = Site()
    wait_until(lambda: site.disk_key(disk), "the disk", 60)
    large, empty, qcow = fresh("large.img"), fresh("empty.img"), fresh("seed.qcow2")
    with open(large, "wb") as f:
        f.truncate(DISK_BYTES + 512)
    open(empty, "wb").close()
    run("qemu-img", "create", "-q", "-f", "qcow2", qcow, "96M")
    for path, word in ((large, "bytes"), (empty, "empty"), (qcow, "qcow2"), (fresh("nothing.img"), "No such file"),
                       (os.path.dirname(large), "neither")):
        try:
            protect(site, disk, path)
            raise Failure(f"the seed {path} was taken")
        except CliError as refused:
            check(word in refused.text and path in refused.text, f"{path}: {refused.text}")
        wait_until(lambda: site.machine()["state"] == "unprotected", "the machine to be unprotected again", 60, 0.2)
    for text in ("nothing", f"{disk.device}=relative.img", f"/dev/none={large}"):
        result = site.cli_result("machine", "protect", site.machine()["id"], disk.device, "--seed", text)
        check(result.returncode != 0, f"--seed {text} was taken")

    # Garbage, and shorter than the disk.
    garbage = fresh("garbage.img")
    with open(garbage, "wb") as f:
        f.write(random.Random(4).randbytes(20 * MIB + 1000))
    job = protect(site, disk, garbage)
    check(int(job["result"]["seed_bytes"]) == 20 * MIB + 1000, f"{job['result']}")
    site.settled_point()
    same_as_disk(site, disk, "with garbage as a seed")
    # Nothing may come in beside what is replicated.
    try:
        protect(site, disk, garbage)
        raise Failure("a seed of a protected machine was taken")
    except CliError as refused:
        check("protected already" in refused.text, refused.text)
    site.cli("machine", "unprotect", site.machine()["id"])
    try:
        protect(site, disk, garbage)
        raise Failure("a seed was taken over the points of a machine")
    except CliError as refused:
        check("holds replicated data" in refused.text, refused.text)
    # And without one it goes on from what the vault has.
    change(disk, 5)
    wait_until(lambda: site.machine()["state"] == "unprotected", "the machine to be unprotected again", 60, 0.2)
    before = sent_bytes(site)
    protect(site, disk)
    site.settled_point()
    check(sent_bytes(site) - before <= CHANGED * BLOCK + OVERHEAD, "a machine that was protected before was sent in full")
    same_as_disk(site, disk, "protected again")


if __name__ == "__main__":
    main()
