# SPDX-License-Identifier: Apache-2.0
"""Virtual machines to be protected: their images, cached by what makes them, and their life under qemu's emulation.

A guest talks to the host by qemu's user network: 10.0.2.2 is the host's loopback, where hub and node listen. The test talks to the
guest by ssh. Emulation (TCG) is slow, and slower on a machine that does something else, so all deadlines are minutes; what is
waited for is always a condition. Each guest ends with the program that started it.

The two processors of a guest share one thread of the host. With a thread each, qemu 7.2 sometimes goes on executing its translation of
an instruction that the guest's kernel has replaced meanwhile, which ftrace and so fentry do: the processor takes the breakpoint
that is no longer there for ever (seen as soft lockups at the first byte of submit_bio_noacct). The instruction CMPXCHG16B is hidden:
with one thread its emulation damaged the kernel's heap (6.12 did not boot).
"""
import fcntl
import glob
import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "system"))
from harness import MIB, ROOT, Failure, check, fresh, note, run, start, stop, wait_until  # noqa: E402

BOOT_S = 900
SSH_OPTIONS = ["-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
               "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=12"]


def install_packages():
    """What only these tests need; quick when it is there."""
    run(os.path.join(ROOT, "cmake", "install-packages.sh"), os.path.join(HERE, "packages.txt"), timeout=1200)


class Image:
    """The disk of a guest that nobody has written to; made anew when its script has changed, else taken from build/vm-image."""

    def __init__(self, suite="bookworm"):
        script = os.path.join(HERE, "make-guest-image.sh")
        with open(script, "rb") as f:
            key = hashlib.sha256(f.read() + suite.encode()).hexdigest()[:16]
        self.folder = os.path.join(ROOT, "build", "vm-image", f"{suite}-{key}")
        os.makedirs(os.path.dirname(self.folder), exist_ok=True)
        with open(self.folder + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(os.path.join(self.folder, "disk.img")):
                note("making the image of the guest:", suite)
                for outdated in glob.glob(os.path.join(ROOT, "build", "vm-image", suite + "-*")):
                    if not outdated.startswith(self.folder):
                        run("rm", "-rf", outdated)
                run(script, self.folder, suite, timeout=1800)
        self.disk = os.path.join(self.folder, "disk.img")
        self.key = os.path.join(self.folder, "ssh.key")
        with open(os.path.join(self.folder, "kernel")) as f:
            self.kernel = f.read().strip()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def blank(size_mib, name):
    """A sparse raw disk."""
    path = fresh(name + ".img")
    with open(path, "wb") as f:
        f.truncate(size_mib * MIB)
    return path


class Guest:
    """One virtual machine. Disks are (file or NBD URI, options of -drive[;options of -device, or the word nvme]); the first one is /dev/vda and
    boots by itself."""

    def __init__(self, image, name, disks, isolated=False, memory_mib=768, ports=()):
        """ports: of the guest, besides ssh's, that the host reaches: at those of its loopback that self.ports tells."""
        self.image, self.name, self.disks, self.isolated, self.memory_mib = image, name, disks, isolated, memory_mib
        self.console = fresh(name + ".console")
        self.process = self.port = self.machine_protocol = None
        self.ports = dict.fromkeys(ports)

    @classmethod
    def fresh_root(cls, image, name, disks, **options):
        overlay = fresh(name + ".qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image.disk, "-F", "raw", overlay)
        return cls(image, name, [(overlay, "format=qcow2"), *disks], **options)

    def boot(self):
        self.power_on()
        self.wait_ssh()

    def power_on(self, *more):
        """more: options of qemu, of a boot from elsewhere for example."""
        self.port = free_port()
        ours, theirs = socket.socketpair()
        self.ports = {port: free_port() for port in self.ports}
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{outer}-:{inner}" for inner, outer in {22: self.port, **self.ports}.items())
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=single,tb-size=256", "-cpu", "Westmere,-cx16", "-smp", "2",
                   "-m", self.memory_mib, "-nodefaults", "-display", "none", "-serial", f"file:{self.console}",
                   "-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control",
                   "-device", "virtio-rng-pci", "-device", "virtio-net-pci,netdev=n",
                   "-netdev", "user,id=n" + forwards + (",restrict=on" if self.isolated else ""), *more]
        for number, (file, options) in enumerate(self.disks):
            drive, _, device = options.partition(";")
            command += ["-drive", f"file={file},if=none,id=d{number},discard=unmap,{drive}",
                        "-device", f"{'nvme' if device == 'nvme' else 'virtio-blk-pci'},drive=d{number},serial={self.name[:12]}-{number}"
                        + ("," + device if device not in ("", "nvme") else "")]
        with theirs:
            self.process = start(command, log=self.console + ".qemu", pass_fds=[theirs.fileno()])
        self.machine_protocol = ours.makefile("rw")
        ours.close()

    def ask_machine(self, command, **arguments):
        """One command of QEMU's machine protocol (QMP); what it returns."""
        for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
            self.machine_protocol.write(json.dumps(request) + "\n")
            self.machine_protocol.flush()
            answer = {}
            while not answer.keys() & {"return", "error"}:  # a greeting and events come between
                line = self.machine_protocol.readline()
                check(line, f"qemu ended: {self.output()}")
                answer = json.loads(line)
            if "error" in answer and request["execute"] == command:
                raise Failure(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def grow_disk(self, number, size_bytes):
        """The disk of this number gets larger while the guest runs, as a volume of a storage does."""
        self.ask_machine("block_resize", device=f"d{number}", size=size_bytes)

    def plug_disk(self, file, name):
        """One disk more while the guest runs, with a serial number made of the name."""
        self.ask_machine("blockdev-add", **{"node-name": name, "driver": "raw", "file": {"driver": "file", "filename": file, "locking": "off"}})
        self.ask_machine("device_add", driver="virtio-blk-pci", id=name, drive=name, serial=f"{self.name[:12]}-{name[:7]}")

    def pull_disk(self, name):
        """Takes it out again, whoever in the guest has it open."""
        def is_let_go():
            self.ask_machine("blockdev-del", **{"node-name": name})
            return True
        self.ask_machine("device_del", id=name)
        wait_until(is_let_go, f"the guest to let go of the disk {name}", 300)

    def wait_ssh(self, timeout=BOOT_S, other_than=None):
        """Until sshd answers; with other_than, until it does so in another boot than that. The boot id."""
        def answers():
            check(self.process.poll() is None, f"qemu ended: {self.output()}")
            boot = self.ssh("cat /proc/sys/kernel/random/boot_id", timeout=60).strip()
            return boot if boot and boot != other_than else None
        try:
            return wait_until(answers, f"{self.name} to answer", timeout, 0.5)
        except Failure:
            note(self.output())
            raise

    def output(self, size=3000):
        text = ""
        for path in (self.console + ".qemu", self.console):
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    text += f.read()[-size:]
        return text

    def ssh_command(self, command):
        return ["ssh", "-i", self.image.key, "-p", str(self.port), *SSH_OPTIONS, "root@127.0.0.1", command]

    def ssh(self, command, timeout=600, ok=(0,), stdin=None):
        """Standard output of a shell command in the guest."""
        return run(*self.ssh_command(command), timeout=timeout, ok=ok, **({"stdin": stdin} if stdin else {}))

    def ssh_start(self, command, log):
        """A command that goes on; ended with the connection."""
        return start(self.ssh_command(command), log=log)

    def put(self, source, target, mode="755"):
        with open(source, "rb") as f:
            self.ssh(f"mkdir -p {shlex.quote(os.path.dirname(target))} && cat > {shlex.quote(target)}.new && "
                     f"chmod {mode} {shlex.quote(target)}.new && mv {shlex.quote(target)}.new {shlex.quote(target)}", stdin=f)

    def put_text(self, text, target, mode="644"):
        path = fresh("put")
        with open(path, "w") as f:
            f.write(text)
        self.put(path, target, mode)

    def boot_id(self):
        return self.ssh("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self):
        before = self.boot_id()
        self.ssh("systemctl reboot", ok=None)
        return self.wait_ssh(other_than=before)

    def power_off(self, timeout=600):
        """The guest shuts itself down."""
        self.ssh("systemctl poweroff", ok=None)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not power off: {self.output(600)}")
        self.end()

    def end(self):
        """As if the power failed."""
        stop(self.process, grace_s=20)

    def power_fails(self):
        """From one instruction to the next."""
        stop(self.process, number=signal.SIGKILL)
