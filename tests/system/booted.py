# SPDX-License-Identifier: Apache-2.0
"""A Debian of its own for tests of what is installed: systemd runs as process 1 of new namespaces (mounts, processes, network,
host name, cgroups) on an overlay over a tree that is made once and kept in the build folder. What happens in it leaves the tree as
it was. Its kernel settings, /sys and devices are read-only or its own, so that nothing reaches the machine.
"""
import contextlib
import glob
import hashlib
import os
import shutil
import signal
import subprocess

import harness
from harness import BIN, ROOT, Failure, check, defer, fresh, making_shared, note, run, start, wait_until

TREES = os.path.join(os.path.dirname(os.path.abspath(BIN)), "trees")
CGROUPS = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
# What would reach out to the machine, or waits for a console.
MASKED = ["systemd-sysctl.service", "systemd-modules-load.service", "systemd-remount-fs.service", "systemd-logind.service",
          "proc-sys-fs-binfmt_misc.automount", "getty.target", "console-getty.service", "postgresql.service", "e2scrub_reap.service",
          "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "systemd-timesyncd.service"]
BOOT = r"""
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys" && mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf "$root/sys/fs/bpf" # as systemd does, but not in a container
mount -o remount,bind,ro "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$node"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
for device in $2; do
    mknod -m 660 "$root$device" b $((0x$(stat -c %t "$device"))) $((0x$(stat -c %T "$device")))
done
for link in ptmx:pts/ptmx fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
    ln -s "${link#*:}" "$root/dev/${link%%:*}"
done
hostname leeward-test
ip link set lo up
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=leeward-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""


def packages_of(debs, without=()):
    """Names of the packages of Debian that these depend on, the first of each choice that is not unwanted; not those among
    themselves."""
    own = {run("dpkg-deb", "-f", deb, "Package").strip() for deb in debs}
    names = set()
    for deb in debs:
        for choice in run("dpkg-deb", "-f", deb, "Depends").replace("\n", " ").split(","):
            options = [o.split("(")[0].strip() for o in choice.split("|")]
            name = next(o for o in options if o not in without)
            if name and name not in own:
                names.add(name)
    return sorted(names)


def tree(name, packages):
    """The folder of a tree with these packages, from the build folder when it has been made before."""
    script = os.path.join(ROOT, "packaging", "container", "make-tree.sh")
    with open(script, "rb") as f:
        wanted = hashlib.sha256(f.read() + " ".join(packages).encode()).hexdigest()[:12]
    folder = os.path.join(TREES, f"{name}-{wanted}")
    with making_shared():
        if not os.path.isdir(folder):
            for old in glob.glob(os.path.join(TREES, f"{name}-*")):
                shutil.rmtree(old)
            note("making the tree", folder)
            os.makedirs(TREES, exist_ok=True)
            # Mounts of its own, so that none is left when it is killed in the middle.
            run("unshare", "--mount", "--propagation", "private", script, folder + ".part", *packages, timeout=1500)
            os.rename(folder + ".part", folder)
    return folder


class Overlay:
    """A writable copy of a tree that costs nothing."""

    def __init__(self, lower):
        self.folder = fresh("overlay")
        self.root = os.path.join(self.folder, "root")
        for part in ("upper", "work", "root"):
            os.makedirs(os.path.join(self.folder, part))
        defer(harness.unmount, self.root)
        run("mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir={lower},upperdir={self.folder}/upper,workdir={self.folder}/work", self.root)

    def path(self, name):
        return self.root + name


class Booted(Overlay):
    def __init__(self, lower, devices=()):
        super().__init__(lower)
        for unit in MASKED:
            os.symlink("/dev/null", self.path(f"/etc/systemd/system/{unit}"))
        with open(self.path("/etc/hosts"), "w") as f:
            f.write("127.0.0.1 localhost leeward-test\n")
        with open(self.path("/etc/hostname"), "w") as f:
            f.write("leeward-test\n")
        self.log = fresh("boot.log")
        self.cgroup = os.path.join(CGROUPS, f"leeward-test-{os.getpid()}")
        os.mkdir(self.cgroup)
        defer(remove_cgroup, self.cgroup)
        script = fresh("boot.sh")
        with open(script, "w") as f:
            f.write(BOOT)
        self.process = start(
            ["bash", "-c", f"echo $$ >{self.cgroup}/cgroup.procs && exec unshare --mount --uts --ipc --net --pid --cgroup --fork "
             f"--kill-child=KILL bash {script} {self.root} '{' '.join(devices)}'"], log=self.log)
        self.undo_entry = defer(self.halt)
        self.pid = wait_until(self._init, "systemd to be process 1", 60)
        wait_until(self._is_up, "the machine to be up", 180, 0.3)

    def _init(self):
        check(self.process.poll() is None, "it ended: " + self.last_log())
        for pid in harness.children_of(self.process.pid):
            if "/lib/systemd/systemd" in harness.command_line(pid)[0]:
                return pid
        return None

    def _is_up(self):
        check(self.process.poll() is None, "it ended: " + self.last_log())
        return self("systemctl", "is-system-running", ok=None).strip() in ("running", "degraded")

    def last_log(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-600:]

    def halt(self):
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGRTMIN + 3)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(90)
        harness.stop(self.process, signal.SIGKILL)

    def command(self, *words, namespaces="--all"):
        return ["nsenter", "--target", str(self.pid), namespaces, "--", "env", "-i", "-C", "/",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", *map(str, words)]

    def __call__(self, *words, ok=(0,), timeout=120, namespaces="--all"):
        """Runs a command in it; its output."""
        return run(*self.command(*words, namespaces=namespaces), ok=ok, timeout=timeout)

    def seen(self, name):
        """A path of it as the machine sees it, mounts of its own included."""
        return f"/proc/{self.pid}/root{name}"

    def shown(self, unit, what):
        """A property of a unit."""
        return self("systemctl", "show", "--value", "-p", what, unit).strip()

    def is_active(self, unit):
        return self("systemctl", "is-active", unit, ok=None).strip() == "active"

    def wait_active(self, unit, timeout=120):
        try:
            wait_until(lambda: self.is_active(unit), f"{unit} to be active", timeout, 0.3)
        except Failure:
            note(self("journalctl", "--no-pager", "-n", "40", "-u", unit, ok=None))
            raise


def remove_cgroup(folder):
    """Once its processes are gone, which the kernel does in its own time."""
    def gone():
        for path, _, _ in os.walk(folder, topdown=False):
            os.rmdir(path)
        return True
    wait_until(gone, f"{folder} to be empty", 60)
