#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bare metal: a machine with an empty disk boots the rescue image, gets an address by DHCP, enrols with the token of its kernel's command line, and
shows up with its disk. A point of a lost Debian system is written to that disk, which then boots by itself as that system."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import Image, blank  # noqa: E402
from rescue import rescue_image  # noqa: E402
from harness import MIB, CliError, Disk, Failure, Site, check, fresh, main, note, run, start, stop, test, undo, wait_until  # noqa: E402

SERIAL = "new-hardware"
BOOT_S = 900
QEMU = ["nice", "-n", "5", "qemu-system-x86_64", "-accel", "tcg,thread=single,tb-size=256", "-cpu", "Westmere,-cx16", "-smp", "1", "-nodefaults", "-display", "none",
        "-no-reboot", "-device", "virtio-rng-pci"]


class BareMachine:
    """A machine with one disk. Its first start is from the rescue image, as from a network card's boot program, its second from the disk."""

    def __init__(self, folder, disk):
        self.folder, self.disk = folder, disk
        self.process = None

    def begin(self, name, *options):
        self.console = fresh(name + ".console")
        self.process = start([*QEMU, "-m", "768", "-serial", f"file:{self.console}", "-drive", f"file={self.disk},format=raw,if=none,id=d,cache=unsafe,discard=unmap",
                              "-device", f"virtio-blk-pci,drive=d,serial={SERIAL}", *options], log=self.console + ".qemu")

    def boot_rescue(self, words):
        self.begin("rescue", "-kernel", os.path.join(self.folder, "vmlinuz"), "-initrd", os.path.join(self.folder, "initrd"), "-append",
                   f"console=ttyS0 quiet mitigations=off nokaslr random.trust_cpu=on {words}", "-device", "virtio-net-pci,netdev=n", "-netdev", "user,id=n")

    def boot_disk(self):
        self.begin("restored")

    def said(self):
        with open(self.console, errors="replace") as f:
            return f.read()

    def wait_said(self, text):
        def there():
            check(self.process.poll() is None, f"qemu ended: {self.said()[-800:]}")
            return text in self.said()
        try:
            wait_until(there, f"the console to say {text!r}", BOOT_S, 0.3)
        except Failure:
            note(self.said()[-3000:])
            raise

    def wait_end(self):
        """A restart ends qemu: what follows is another start."""
        wait_until(lambda: self.process.poll() is not None, "the machine to restart", BOOT_S, 0.2)
        undo(self.process.undo_entry)


class Lab:
    def __init__(self):
        self.folder = rescue_image()
        image = Image()
        self.disk = Disk(os.path.getsize(image.disk))
        run("cp", "--sparse=always", image.disk, self.disk.device, timeout=600)
        run("blockdev", "--flushbufs", self.disk.device)
        self.site = Site()
        # The bare machine knows the host as 10.0.2.2; nothing else reaches the node at that name here.
        run("ip", "address", "show")
        self.site.protect(self.disk, timeout=600)
        self.name = self.site.machine()["name"]


def refused(site, *command):
    try:
        site.cli(*command, timeout=300)
    except CliError as refusal:
        return refusal.text
    raise AssertionError(f"{command} was not refused")
