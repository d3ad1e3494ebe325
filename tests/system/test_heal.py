#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Damage in a sealed segment under a running site: it is found, the points that it hits are named, what can be healed is healed, the
newest state becomes right, and what the source has overwritten since stays an error and never becomes wrong data."""
import os

from harness import MIB, Disk, Site, check, fresh, main, note, run, test, wait_until
from log_segment import Segment

DISK = 100 * MIB
CHANGED = range(8 * MIB, 9 * MIB)  # overwritten between the two points


def write_random(disk, begin, end):
    with open(disk.device, "r+b", buffering=0) as f:
        f.seek(begin)
        for _ in range(begin, end, MIB):
            f.write(os.urandom(MIB))
        os.fsync(f.fileno())


def content(path):
    if path.startswith("/dev/"):
        run("blockdev", "--flushbufs", path)
    with open(path, "rb") as f:
        return f.read(DISK)


def first_segment(site):
    folder = os.path.join(site.data, "vault", "machines", site.machine()["id"], "main")
    check(len(os.listdir(folder)) > 1, "the first segment is not sealed")
    return Segment(os.path.join(folder, sorted(os.listdir(folder))[0]))


def integrity(site):
    return site.cli("machine", "integrity", site.machine()["id"])


def differing(site, sequence, right):
    """Blocks of 64 KiB of the point that cannot be read (they come as zeros) or are not what was written."""
    copy = fresh("salvaged.img")
    export = site.open(sequence)
    run("qemu-img", "convert", "--salvage", "-f", "raw", "-O", "raw", export.uri(), copy)
    export.close()
    got = content(copy)
    os.unlink(copy)
    wrong = [at for at in range(0, DISK, 65536) if got[at:at + 65536] != right[at:at + 65536]]
    for at in wrong:
        for page in range(at, at + 65536, 4096):
            check(got[page:page + 4096] in (right[page:page + 4096], bytes(4096)), f"wrong bytes at {page} of point {sequence}")
    return wrong


@test
def damage_is_found_named_and_healed():
    disk = Disk(DISK)
    write_random(disk, 0, DISK)
    site = Site(daemon_options={"vault": ["--scrub-rate 1G", "--scrub-every 2s"]})
    site.protect(disk)
    first = site.settled_point()["sequence"]
    old = content(disk.device)
    write_random(disk, CHANGED.start, CHANGED.stop)
    site.settled_point()

    segment = first_segment(site)
    same = segment.whole_block(20 * MIB)      # the source still has it
    header = segment.whole_block(24 * MIB)    # one bit of its header: it says itself what it was
    changed = segment.whole_block(CHANGED.start)  # gone from the source
    segment.flip(same[0] + 64 + 1000)
    segment.flip(header[0] + 33)
    segment.flip(changed[0] + 64 + 5)

    healed = wait_until(lambda: (r := integrity(site))["healed_count"] == 2 and r["damage_count"] == 1 and r, "the healing", 60, 0.5)
    note(healed["damages"])
    left = next(d for d in healed["damages"] if d["state"] == "damaged")
    check((left["start"], left["length_bytes"]) == (changed[2], 65536), f"another range is named: {left}")
    check(left["first_point"] <= first <= left["last_point"] and left["points"] >= 1, f"other points are named: {left}")
    newest = site.points()[0]["sequence"]
    check(left["last_point"] < newest, f"the newest point {newest} is named too: {left}")
    check(healed["damaged_points"] == left["points"], f"how many points are hit: {healed['damaged_points']}, {left}")

    told = site.cli_result("event", "tail", "--severity", "error", "--from", "0", "--count", "1").stdout
    check("vault_damaged" in told, f"no event tells the damage: {told[-300:]}")

    check(differing(site, first, old) == [changed[2]], "the old point is not what was written, but for what is named")
    check(differing(site, None, content(disk.device)) == [], "the newest point is not the disk")

    answer = site.cli_result("vault", "verify", "-o", "json", timeout=120)
    check(answer.returncode == 1 and f'"{left["last_point"]}"' in answer.stdout, f"verify does not show it: {answer.stdout[-600:]}")
    text = site.cli_result("machine", "integrity", site.machine()["name"]).stdout
    check("damaged" in text and "healed" in text, f"the table does not show it: {text}")


@test
def newest_state_becomes_right_when_a_header_is_lost():
    disk = Disk(DISK)
    write_random(disk, 0, DISK)
    site = Site(daemon_options={"vault": ["--scrub-rate 1G", "--scrub-every 2s"]})
    site.protect(disk)
    first = site.settled_point()["sequence"]
    old = content(disk.device)
    segment = first_segment(site)
    lost = segment.whole_block(30 * MIB)
    segment.change(lost[0] // 512 * 512, bytes(1024))  # torn sectors: the header is in them, and perhaps the end of what is before it
    wait_until(lambda: (r := integrity(site))["damages"] and not any(d["last_point"] == 0 for d in r["damages"]) and
               not differing(site, None, content(disk.device)), "the newest point to be the disk again", 60, 1)
    wrong = differing(site, first, old)
    note("blocks of the old point that stay unreadable:", wrong)
    check(len(wrong) <= 2 and all(abs(at - lost[2]) <= 65536 for at in wrong), f"more is lost than was damaged: {wrong}")


if __name__ == "__main__":
    main()
