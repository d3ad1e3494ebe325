# SPDX-License-Identifier: Apache-2.0
"""The machines that a hub starts for fix-ups: who they are, and a system for them to work on."""
import contextlib
import glob
import os

from harness import command_line

FSTAB = "/dev/sdx1 / ext4 defaults 0 1\n"


def machines_below(hub):
    """Process ids of qemu below the process of a hub. One with -S only tries whether it could be started."""
    children = []
    for thread in glob.glob(f"/proc/{hub}/task/*/children"):
        with contextlib.suppress(OSError), open(thread) as f:
            children += map(int, f.read().split())
    commands = {pid: command_line(pid)[:20] for pid in children}
    return [pid for pid, command in commands.items() if any("qemu" in word for word in command) and "-S" not in command]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def make_system(disk):
    """What fix-ups take for a system, on the disk's file system."""
    place = disk.mount()
    for folder in ("etc", "usr"):
        os.mkdir(os.path.join(place, folder))
    with open(os.path.join(place, "etc", "fstab"), "w") as f:
        f.write(FSTAB)
    disk.unmount()
