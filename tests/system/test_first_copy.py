#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A first copy goes on where it was, whoever is killed: the agent, the node, the vault and the hub in turn, while a throttle keeps it going. What is read of the
disk once more after a kill is bounded by what was on its way, and the first point is the disk."""
import json
import os
import re

from harness import MIB, Disk, Site, check, main, note, same_after_all, test, wait_until

USED = 448 * MIB
RATE = 16 * MIB
STEP = 64 * MIB  # of the disk, between two marks of a copy; at this rate a step ends sooner, and few of them are on their way
KILLED = ("agent", "node", "vault", "hub")


class FirstCopy:
    """A site with one disk that is full of random bytes, and is being copied."""

    def __init__(self):
        self.disk = Disk(USED)
        self.disk.fill_all()
        self.site = Site()
        self.site.cli("policy", "set", "default", "--throttle", RATE)
        self.before = self.disk.bytes_read()
        self.site.protect(self.disk, wait=False)

    def saved(self):
        """Where the copy would go on, as far as an agent that is killed now has saved it; the end, when it is there."""
        with open(os.path.join(self.site.data, "agent", "state")) as f:
            disks = json.load(f)["disks"]
        return 0 if not disks else USED if disks[0]["copy"] == "done" else disks[0]["cursor"]

    def began(self):
        """Where each copy that there was began, or was begun again."""
        with open(self.site.log, errors="replace") as f:
            return [int(a or b) for a, b in re.findall(r" sweep_planned .*\bat=(\d+)| sweep_rewound .*\bto=(\d+)", f.read())]

    def read(self):
        return self.disk.bytes_read() - self.before

    def passes(self, place):
        return wait_until(lambda: self.saved() >= place and self.saved(), f"{place // MIB} MiB to be copied", 120, 0.05)

    def survives(self, role):
        """Kills it; where the copy then goes on is not before where it was saved."""
        pid, begins, cursor = self.site.pid_of(role), len(self.began()), self.saved()
        check(cursor < USED, f"the copy was over before the {role} was killed")
        self.site.kill(role)
        wait_until(lambda: self.site.pid_of(role) != pid, f"the {role} to be started again", 60, 0.05)
        if role == "agent":
            wait_until(lambda: len(self.began()) > begins, "the copy to be begun again", 60, 0.05)
        read = self.read()
        reached = self.passes(cursor + 1)
        later = self.began()[begins:]
        note(f"{role} killed at {cursor / MIB:.0f} MiB; begun again at {[n // MIB for n in later]} MiB, then at {reached / MIB:.0f} MiB; read {read / MIB:.0f} MiB")
        check(all(place >= cursor for place in later), f"{role}: {cursor} bytes were saved, and it went on at {later}")


@test
def it_goes_on_where_it_was_whoever_is_killed():
    copy = FirstCopy()
    for number, role in enumerate(KILLED):
        copy.passes((number + 1) * USED // (len(KILLED) + 2))
        copy.survives(role)
    copy.site.wait_protected(180)
    read = copy.read()
    note(f"{read / MIB:.0f} MiB were read to copy {USED // MIB} MiB")
    check(USED <= read <= USED + len(KILLED) * STEP, f"{read} bytes were read to copy {USED}")
    same_after_all(copy.site, copy.disk)
    codes = [e["code"] for e in copy.site.items("event", "list", "--limit", "500")]
    check("resync_started" not in codes and "vault_empty" not in codes, f"it was begun anew: {codes}")


if __name__ == "__main__":
    main()
