#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a branch promises as a disk: flush, FUA, trim, zeroes and block status as NBD has them; a verifying random workload on several
branches at once; and what was flushed stays, whoever is killed with SIGKILL."""
import json
import os
import signal

from harness import MIB, Disk, Site, check, children_of, command_line, fresh, image_of, main, note, run, start, test, wait_until

SIZE = 64 * MIB
BRANCHES = 3


def site_with_point():
    disk = Disk(SIZE)
    disk.fill_random(400)
    site = Site()
    site.protect(disk)
    return site, disk, site.settled_point()


def branch(site, point):
    return site.cli("branch", "create", f"{site.machine()['id']}@{point['sequence']}")


def qemu_io(uri, *commands):
    said = run("qemu-io", "-f", "raw", *[w for c in commands for w in ("-c", c)], uri, ok=None)
    return said


def reads(uri, byte, at, length):
    said = qemu_io(uri, f"read -P {byte} {at} {length}")
    return "verification failed" not in said and f"read {length}/" in said


def kinds(uri, at, length):
    """The kinds of block status that cover the range."""
    found = set()
    for e in json.loads(run("nbdinfo", "--map", "--json", uri)):
        if e["offset"] < at + length and e["offset"] + e["length"] > at:
            found.add(e["type"])
    return found


@test
def branches_do_what_nbd_says_and_verify_under_random_work():
    site, disk, point = site_with_point()
    one_by_one(site, point)
    many_at_once(site, disk, point)


def one_by_one(site, point):
    uri = branch(site, point)["uri"]
    for ability in ("write", "flush", "fua", "trim", "zero", "fast-zero", "multi-conn"):
        run("nbdinfo", "--can", ability, uri)
    said = qemu_io(uri, "write -f -P 17 1M 128k", "write -P 18 2097000 1000", "write -z -u 4M 1M", "discard 6M 1M",
                   "write -P 19 8M 64k", "write -z 8M 32k", "flush")
    check("rror" not in said, said)
    check(reads(uri, 17, MIB, 131072) and reads(uri, 18, 2097000, 1000), "what was written does not read back")
    check(reads(uri, 0, 4 * MIB, MIB) and reads(uri, 0, 6 * MIB, MIB), "zeroed or trimmed blocks are not zero")
    check(reads(uri, 0, 8 * MIB, 32768) and reads(uri, 19, 8 * MIB + 32768, 32768), "zeroing took too much or too little")
    check(kinds(uri, MIB, 131072) == {0}, "written data is not called data")
    check(kinds(uri, 4 * MIB, MIB) == {3} and kinds(uri, 6 * MIB, MIB) == {3}, "zeroed blocks are not called holes that read as zeros")
    copy = fresh("copy.img")
    run("nbdcopy", uri, copy)
    check("identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, copy), "nbdcopy and qemu-img read different disks")
    check("out of range" in qemu_io(uri, f"write -P 1 {SIZE - 512} 1024") or SIZE == os.path.getsize(copy), "it grew")

    reader = site.open(point["sequence"]).uri()
    run("nbdinfo", "--can", "write", reader, ok=(1, 2))
    run("nbdinfo", "--can", "multi-conn", reader)


def fio(uri, seed, verify_only=False):
    return ["fio", "--thread", "--name=branch", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bsrange=512-32k", "--blockalign=512",
            "--size=12M", "--io_size=8M", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", f"--randseed={seed}",
            "--fsync=40", *(["--verify_only"] if verify_only else [])]


def many_at_once(site, disk, point):
    before = image_of(disk.device)
    branches = [branch(site, point) for _ in range(BRANCHES)]
    work = [(b, start(fio(b["uri"], n), log=fresh("fio.log"))) for n, b in enumerate(branches)]
    for b, process in work:
        wait_until(lambda p=process: p.poll() is not None, "fio to end", 120)
        check(process.returncode == 0, f"fio found {b['id']} to be wrong")
    check(image_of(site.open(point["sequence"]).copy()) == before, "work on branches changed their point")
    for n, b in enumerate(branches):  # closed and opened again: the same, from the snapshot and the log
        site.cli("branch", "close", b["id"])
        uri = site.cli("branch", "open", b["id"])["uri"]
        run(*fio(uri, n, verify_only=True))
    site.cli("vault", "verify")


def server_of(site, branch_id):
    return next((pid for pid in children_of(site.pid_of("vault")) if branch_id in " ".join(command_line(pid))), None)


@test
def what_was_flushed_stays_whoever_is_killed():
    site, _, point = site_with_point()
    made = branch(site, point)
    uri, flushed = made["uri"], {}
    for n, victim in enumerate(("server", "vault", "server")):
        at = n * 4 * MIB + 512
        check("rror" not in qemu_io(uri, f"write -P {n + 40} {at} 300k", "flush", f"write -f -P {n + 80} {at + 2 * MIB} 4k"),
              "writing failed")
        flushed.update({at: (n + 40, 300 * 1024), at + 2 * MIB: (n + 80, 4096)})
        # Somebody writes on, elsewhere, while it is killed.
        noise = start(["fio", "--thread", "--name=noise", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bs=4k", "--iodepth=4",
                       "--offset=40M", "--size=16M", "--time_based", "--runtime=30"], log=fresh("noise.log"))
        pid = server_of(site, made["id"]) if victim == "server" else site.pid_of("vault")
        wait_until(lambda: os.path.exists(f"/proc/{pid}") and noise.poll() is None, "the noise", 10)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: noise.poll() is not None, "the noise to notice", 60)
        wait_until(lambda: reads(uri, *[(b, a, n) for a, (b, n) in flushed.items()][0]), "the branch to be served again", 60)
        for place, (byte, length) in flushed.items():
            check(reads(uri, byte, place, length), f"flushed data at {place} is gone after the {victim} was killed")
    note("kept", len(flushed), "places over", n + 1, "kills")


if __name__ == "__main__":
    main()
