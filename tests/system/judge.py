# SPDX-License-Identifier: Apache-2.0
"""Holds points of file systems to what the disk really held: clean after the journal was replayed, and the ledger up to their moment."""
import os

from harness import MIB, fs_check, note, point_time, undo, wait_until

SIZE = {"ext4": 320 * MIB, "xfs": 384 * MIB, "btrfs": 768 * MIB}
MOUNT = {"ext4": "defaults", "xfs": "nouuid", "btrfs": "defaults"}


def nobody_uses(device):
    os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    return True


def judge_point(site, kind, point, ledger, also=None):
    """`also` is called with the folder in which the point is mounted."""
    export = site.open(point["sequence"], write=True)
    attached = export.attach()
    # As after a power failure: a mount replays the journal, then the check must find nothing.
    folder = attached.mount(MOUNT[kind])
    last = ledger.judge([os.path.join(folder, "ledger")], point_time(point))
    if also:
        also(folder)
    undo(attached._mount)
    attached._mount = None
    # Who made a mount namespace of its own meanwhile keeps the file system mounted there until it ends.
    wait_until(lambda: nobody_uses(attached.device), "the copy to be unmounted everywhere", 60)
    fs_check(kind, attached.device)
    attached.detach()
    export.close()
    note(kind, "point", point["sequence"], point["kind"], "holds the ledger up to", last)
