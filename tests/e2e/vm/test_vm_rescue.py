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
from agent_site import Agent, HubSite  # noqa: E402
from harness import MIB, Disk, Failure, check, fresh, image_of, main, note, point_time, run, start, test, undo, wait_until, with_options  # noqa: E402

SERIAL = "new-hardware"
BOOT_S = 900
QEMU = ["qemu-system-x86_64", "-accel", "tcg,thread=single,tb-size=256", "-cpu", "Westmere,-cx16", "-smp", "1", "-nodefaults", "-display", "none",
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
                   f"console=ttyS0 quiet mitigations=off nokaslr no_timer_check random.trust_cpu=on {words}", "-device", "virtio-net-pci,netdev=n", "-netdev", "user,id=n")

    def boot_disk(self):
        self.begin("restored")

    def said(self):
        with open(self.console, errors="replace") as f:
            return f.read()

    def check_alive(self):
        check(self.process.poll() is None, f"qemu ended: {self.said()[-800:]}")

    def wait(self, condition, what):
        def there():
            self.check_alive()
            return condition()
        try:
            return wait_until(there, what, BOOT_S, 0.3)
        except Failure:
            note(self.said()[-3000:])
            raise

    def wait_end(self):
        """A restart ends qemu: what follows is another start."""
        wait_until(lambda: self.process.poll() is not None, "the machine to restart", BOOT_S, 0.2)
        undo(self.process.undo_entry)


class RescueSite(HubSite):
    """In a network namespace of its own, where 10.0.2.2 is the loopback for the agent here, as it is for a guest behind qemu's user network."""

    def start(self, wait=True):
        self.bin = with_options({"node": ["--listen", f"0.0.0.0:{self.port_base + 2}", "--advertise", f"10.0.2.2:{self.port_base + 2}"]})
        super().start(wait)


class Lab:
    """A Debian system on a disk that is protected, and lost."""

    def __init__(self):
        self.folder = rescue_image()
        image = Image()
        self.disk = Disk(os.path.getsize(image.disk))
        run("cp", "--sparse=always", image.disk, self.disk.device, timeout=600)
        run("blockdev", "--flushbufs", self.disk.device)
        self.site = RescueSite()
        self.lost = Agent(self.site, "lost")
        self.site.cli("machine", "protect", "lost", "--disk", self.lost.key(self.disk), "--no-wait")
        wait_until(lambda: self.lost.is_protected() and self.lost.points(), "the machine to be protected", 600, 0.3)
        os.sync()
        now = time.time()
        self.point = wait_until(lambda: next((p for p in self.lost.points() if point_time(p) >= now), None), "a point of it", 120, 0.3)
        self.lost.stop()
        self.bare = BareMachine(self.folder, blank(os.path.getsize(image.disk) // MIB + 512, "bare"))

    def enrolled(self):
        self.bare.check_alive()
        return next((m for m in self.site.items("machine", "list") if m["name"] == "newbox" and m["online"]), None)


lab = None


@test
def a_bare_machine_enrols_gets_a_point_and_boots_as_the_lost_one():
    site, bare = lab.site, lab.bare
    token = site.cli("enrol-token", "create", "--role", "agent")["token"]
    begin = time.monotonic()
    bare.boot_rescue(f"leeward.hub=10.0.2.2:{site.port_base + 1} leeward.token={token} leeward.name=newbox")
    bare.wait(lab.enrolled, "the bare machine to enrol")
    disks = bare.wait(lambda: site.items("disk", "list", "newbox"), "its disks")
    machine = bare.wait(lambda: (m := lab.enrolled()) and m["rescue"] and m, "it to say that it is a rescue system")
    note(f"enrolled after {time.monotonic() - begin:.0f} s; {os.path.getsize(os.path.join(lab.folder, 'initrd')) / MIB:.0f} MiB: {machine['os_name']}, "
         f"{machine['addresses']}, {disks[0]['key']}")
    check(machine["state"] == "unprotected" and "10.0.2.15" in machine["addresses"], f"{machine}")
    check([(d["key"].endswith(SERIAL), d["size_bytes"], d["is_root"]) for d in disks] == [(True, os.path.getsize(bare.disk), False)], f"its disks: {disks}")

    begin = time.monotonic()
    job = site.cli("machine", "restore", f"lost@{lab.point['sequence']}", "--to", "newbox", "--confirm", "newbox", timeout=3000)
    note(f"restored in {time.monotonic() - begin:.0f} s: {job['result']['restored']}")
    bare.wait_end()
    check("starting from them" in bare.said(), "it ended without a word")
    size = os.path.getsize(bare.disk)
    os.truncate(bare.disk, lab.disk.size_bytes)  # only for the comparison: the disk is larger than what was written to it
    check(image_of(bare.disk) == image_of(lab.disk.device), "the disk is not what the point holds")
    os.truncate(bare.disk, size)
    keys = {d["number"]: d["key"] for d in lab.lost.disks() if d["number"] is not None}
    check(keys[0].endswith(SERIAL), f"the machine's disks are {keys}")

    begin = time.monotonic()
    bare.boot_disk()
    bare.wait(lambda: "guest login:" in bare.said(), "its login prompt")
    note(f"its login prompt after {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    if "LEEWARD_OWN_NETWORK" not in os.environ:
        rescue_image()
        Image()
        # What is fetched is there: the network of its own has none.
        os.environ["LEEWARD_OWN_NETWORK"] = "yes"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-B", "-u", *sys.argv])
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", "10.0.2.2/32", "dev", "lo")
    lab = Lab()
    main()
