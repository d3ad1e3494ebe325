# SPDX-License-Identifier: Apache-2.0
"""Real daemons, real loop disks, real file systems for the system tests; Python's standard library alone.

A test program is a list of functions with @test and ends in `main()`. One that cannot run here raises Skipped. What is started, attached or mounted registers its own
undoing, by id; everything is undone in reverse order at the end, on failure, and on SIGTERM or SIGINT. Nothing here sleeps to
be lucky: `wait_until` asks for a condition with a deadline.
"""
import atexit
import contextlib
import ctypes
import datetime
import fcntl
import glob
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("LEEWARD_BIN", os.path.join(ROOT, "build", "check", "bin"))
PG_BIN = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:] or [""]
PG_BIN = PG_BIN[0]
MIB = 1 << 20
# Deadlines are written for a quiet machine; what passes is not slower for this, what fails is so a little later.
PATIENCE = float(os.environ.get("LEEWARD_PATIENCE", 3))


class Failure(Exception):
    """What a test found wrong."""


class Skipped(Exception):
    """What a test lacks here."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def note(*words):
    print(time.strftime("%H:%M:%S", time.gmtime()), *words, file=sys.stderr, flush=True)


# ---- undoing ----

_undo = []


def defer(function, *arguments):
    entry = (function, arguments)
    _undo.append(entry)
    return entry


def undo(entry):
    """Undoes one thing now."""
    if entry in _undo:
        _undo.remove(entry)
        entry[0](*entry[1])


def undo_all():
    while _undo:
        function, arguments = _undo.pop()
        try:
            function(*arguments)
        except Exception as problem:  # the rest must be undone all the same
            note("cleaning up:", function.__name__, problem)


atexit.register(undo_all)
for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(_number, lambda *_: sys.exit(1))


def temp_dir():
    """One folder of this program, removed at the end."""
    global _temp
    if not _temp:
        _temp = tempfile.mkdtemp(prefix="leeward-test.", dir=os.environ.get("TMPDIR") or "/tmp")
        os.chmod(_temp, 0o711)
        defer(shutil.rmtree, _temp, True)
    return _temp


_temp = None
_serial = 0


def fresh(name):
    """A path that nothing has yet."""
    global _serial
    _serial += 1
    return os.path.join(temp_dir(), f"{_serial:02d}-{name}")


@contextlib.contextmanager
def making_shared():
    """What several programs use in the build folder is made by one of them at a time; look whether it is there in here, too."""
    with open(os.path.join(os.path.dirname(os.path.abspath(BIN)), "shared.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---- commands ----

def run(*command, ok=(0,), timeout=120, **options):
    """Runs to the end; its standard output. Any other exit status than those in `ok` is a Failure with what it said."""
    result = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout * PATIENCE,
                            stdin=options.pop("stdin", subprocess.DEVNULL), text=True, errors="replace", **options)
    if ok is not None and result.returncode not in ok:
        raise Failure(f"{' '.join(map(str, command[:6]))} ended with {result.returncode}: "
                      f"{(result.stderr or result.stdout).strip()[-600:]}")
    return result.stdout


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(command, log=None, **options):
    """A process that is ended (SIGTERM, then SIGKILL) when the test is over."""
    out = open(log, "ab") if log else subprocess.DEVNULL
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                               preexec_fn=options.pop("preexec_fn", die_with_parent), **options)
    if log:
        out.close()
    process.undo_entry = defer(stop, process)
    return process


def stop(process, number=signal.SIGTERM, grace_s=25):
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            note("killing", process.args[0], process.pid)
            process.kill()
            process.wait()
    if process.undo_entry in _undo:
        _undo.remove(process.undo_entry)
    return process.returncode


def wait_until(condition, what, timeout=30.0, every=0.1):
    """Returns the first true value of condition(); Failure when there is none in time. Failures inside mean "not yet"."""
    begin = time.monotonic()
    last = ""
    while True:
        try:
            value = condition()
            if value:
                return value
        except (Failure, OSError, KeyError, IndexError, ValueError, subprocess.TimeoutExpired) as problem:
            last = f" ({problem})"
        if time.monotonic() > begin + timeout * PATIENCE:
            raise Failure(f"waited {time.monotonic() - begin:.0f} s for {what}{last}")
        time.sleep(every)


def children_of(pid):
    with contextlib.suppress(FileNotFoundError):
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    return []


def command_line(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().decode(errors="replace").split("\0")
    return [""]


given_port_bases = set()


def free_port_base(count=5):
    """The first of `count` ports in a row that nobody listens on, and that this program was not given before: it may not listen yet."""
    for _ in range(200):
        base = random.randrange(20000, 30000, 10)
        if base in given_port_bases:
            continue
        sockets = []
        try:
            for port in range(base, base + count):
                s = socket.socket()
                sockets.append(s)
                s.bind(("127.0.0.1", port))
            given_port_bases.add(base)
            return base
        except OSError:
            continue
        finally:
            for s in sockets:
                s.close()
    raise Failure("no free ports between 20000 and 30000")


# ---- disks ----

def detach_loops_of(file):
    for device in run("losetup", "--noheadings", "--output", "NAME", "--associated", file, ok=None).split():
        run("losetup", "--detach", device, ok=None)


def attach_loop(file, *options):
    """A loop device over the file, and the entry that undoes it. Something undoes it from before it is there: a test that is ended
    in between leaves no device behind."""
    by_file = defer(detach_loops_of, file)
    device = run("losetup", "--find", "--show", *options, file).strip()
    entry = defer(run, "losetup", "--detach", device)
    _undo.remove(by_file)
    return device, entry


def mount_device(device, path, options="defaults"):
    """Makes the folder and mounts; the entry that undoes it, which is there before the mount is."""
    os.mkdir(path)
    entry = defer(unmount, path)
    run("mount", "-o", options, device, path)
    return entry


class Disk:
    """A loop disk over a sparse file of its own. Detached by its device name at the end."""

    def __init__(self, size_bytes, sector=512, name="disk", partitions=False, folder=None):
        self.path = os.path.join(folder, name + ".img") if folder else fresh(name + ".img")
        self.size_bytes = size_bytes
        self.mount_point = None
        with open(self.path, "wb") as f:
            f.truncate(size_bytes)
        self.device, self._undo = attach_loop(self.path, "--sector-size", sector, *(["--partscan"] if partitions else []))
        self.size_bytes = int(run("blockdev", "--getsize64", self.device))

    def make_fs(self, kind, device=None):
        options = {"ext4": ["-q", "-F"], "xfs": ["-q", "-f"], "btrfs": ["-q", "-f"]}[kind]
        run(f"mkfs.{kind}", *options, device or self.device)

    def mount(self, device=None, options="defaults"):
        self.mount_point = fresh("mnt")
        self._unmount = mount_device(device or self.device, self.mount_point, options)
        return self.mount_point

    def unmount(self):
        undo(self._unmount)
        self.mount_point = None

    def fill_random(self, blocks, seed=1, block_bytes=4096, sync=True):
        """Writes that many blocks of random bytes to random places of the raw disk."""
        rng = random.Random(seed)
        fd = os.open(self.device, os.O_WRONLY)
        try:
            for _ in range(blocks):
                at = rng.randrange(self.size_bytes // block_bytes) * block_bytes
                os.pwrite(fd, rng.randbytes(block_bytes), at)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def fill_all(self):
        """Writes random bytes to all of the raw disk: nothing of it can be compressed, or left out."""
        with open(self.device, "r+b", buffering=0) as f:
            for at in range(0, self.size_bytes, MIB):
                f.write(os.urandom(min(MIB, self.size_bytes - at)))
            os.fsync(f.fileno())

    def sectors_written(self):
        return self._statistics()[6]

    def bytes_read(self):
        return 512 * self._statistics()[2]

    def _statistics(self):
        with open(f"/sys/block/{os.path.basename(self.device)}/stat") as f:
            return [int(word) for word in f.read().split()]

    def detach(self):
        undo(self._undo)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def unmount(path):
    for attempt in range(40):
        result = subprocess.run(["umount", path], capture_output=True, text=True)
        if result.returncode == 0 or "not mounted" in result.stderr:
            return
        time.sleep(0.25)
    run("umount", "--lazy", path, ok=None)
    note("had to unmount lazily:", path, result.stderr.strip())


def is_frozen(mount_point):
    """True when the file system does not take a new file. One that was left frozen never does; a busy disk takes its time."""
    probe = subprocess.Popen(["touch", os.path.join(mount_point, ".probe")])
    try:
        probe.wait(20 * PATIENCE)
        return False
    except subprocess.TimeoutExpired:
        probe.kill()
        return True


def image_of(path):
    """Hash of a whole disk or file. The cache of a whole disk does not see what went to its partitions: it is dropped first."""
    if str(path).startswith("/dev/"):
        run("blockdev", "--flushbufs", path)
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()  # several times as fast as sha256sum of Debian 12


# ---- Leeward ----

def with_options(daemon_options, daemon_starters=None):
    """A folder of programs in which some daemons get more options, or are started by a command of the shell that is put in front of
    them; `leeward up` starts those that lie beside it."""
    folder = fresh("bin")
    os.mkdir(folder)
    for name in os.listdir(BIN):
        source, target = os.path.join(BIN, name), os.path.join(folder, name)
        options = (daemon_options or {}).get(name.removeprefix("leeward-"))
        starter = (daemon_starters or {}).get(name.removeprefix("leeward-"))
        if options or starter:
            with open(target, "w") as f:
                f.write(f"#!/bin/sh\nexec {starter or ''} '{source}' \"$@\" {' '.join(options or [])}\n")
            os.chmod(target, 0o755)
        elif name == "leeward":
            shutil.copy(source, target)
        else:
            os.symlink(source, target)
    return folder


class CliError(Failure):
    def __init__(self, command, result):
        self.status = result.returncode
        self.text = result.stderr.strip() or result.stdout.strip()
        super().__init__(f"leeward {' '.join(command)}: exit {self.status}: {self.text[-500:]}")


class Site:
    """`leeward up` of its own: hub, node, vault, agent and a private PostgreSQL in a fresh folder, on free ports."""

    def __init__(self, *options, data=None, wait=True, daemon_options=None, daemon_starters=None):
        """daemon_options: {"node": ["--spool-bytes", "32M"]} for a daemon that `leeward up` starts; daemon_starters: {"agent": "setpriv ..."}."""
        self.data = data or fresh("site")
        os.makedirs(self.data, exist_ok=True)
        os.chmod(self.data, 0o711)
        self.port_base = free_port_base()
        self.instance = f"test-{os.getpid()}-{self.port_base}"
        # What the agent left in the kernel (pinned maps) outlives it, by design: taken away when all is over.
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", self.instance, "--data",
              os.path.join(self.data, "agent"))
        self.options = options
        self.bin = with_options(daemon_options, daemon_starters) if daemon_options or daemon_starters else BIN
        self.log = self.data + ".log"
        self.env = None
        self.process = None
        self.start(wait)

    def start(self, wait=True):
        self.process = start([os.path.join(self.bin, "leeward"), "up", "--data", self.data, "--port-base", self.port_base,
                              "--agent-instance", self.instance, *self.options], log=self.log, preexec_fn=None)
        if wait:
            self.wait_ready()

    def stop(self):
        return stop(self.process, grace_s=40)

    def wait_ready(self, timeout=60):
        def ready():
            check(self.process.poll() is None, f"leeward up ended with {self.process.returncode}: {self.last_log()}")
            self.load_env()
            status = self.cli("status")
            return status["nodes"]["online"] and status["vaults"]["online"] and self.machine()["online"]
        try:
            wait_until(ready, "leeward up to be ready", timeout, 0.2)
        except Failure:
            note(self.last_log(4000))
            raise

    def last_log(self, size=600):
        with contextlib.suppress(OSError):
            with open(self.log, errors="replace") as f:
                return f.read()[-size:]
        return ""

    def load_env(self):
        env = dict(os.environ, XDG_CONFIG_HOME=os.path.join(self.data, "config"))
        with open(os.path.join(self.data, "cli.env")) as f:
            for line in f:
                found = re.match(r"^(?:export )?(\w+)=['\"]?(.*?)['\"]?$", line.strip())
                if found:
                    env[found.group(1)] = found.group(2)
        self.env = env

    def cli_result(self, *command, timeout=120):
        return subprocess.run([os.path.join(BIN, "leeward"), *map(str, command)], env=self.env, capture_output=True,
                              text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def cli(self, *command, timeout=120):
        """The JSON that the command printed, or CliError."""
        command = [str(c) for c in command]
        result = self.cli_result(*command, "-o", "json", timeout=timeout)
        if result.returncode != 0:
            raise CliError(command, result)
        return json.loads(result.stdout) if result.stdout.strip() else None

    def items(self, *command):
        answer = self.cli(*command)
        return answer["items"] if isinstance(answer, dict) else answer

    # -- machine and disks --

    def machine(self):
        machines = [m for m in self.items("machine", "list") if not m["simulated"]]
        check(len(machines) == 1, f"{len(machines)} machines instead of one")
        return machines[0]

    def disk_key(self, disk):
        """The key under which the agent listed this disk."""
        def listed():
            shown = self.items("disk", "list", self.machine()["id"])
            return next((d["key"] for d in shown if d["device"] == disk.device), None)
        return wait_until(listed, f"the inventory to list {disk.device}", 60, 0.5)

    def protect(self, *disks, wait=True, timeout=180):
        keys = [self.disk_key(d) for d in disks]
        arguments = [word for key in keys for word in ("--disk", key)]
        self.cli("machine", "protect", self.machine()["id"], *arguments, "--no-wait")
        if wait:
            self.wait_protected(timeout)

    def wait_protected(self, timeout=180):
        def protected():
            machine = self.machine()
            return machine["state"] == "protected" and self.points()
        wait_until(protected, "the machine to be protected", timeout, 0.3)

    # -- points --

    def points(self):
        """Newest first."""
        found = self.items("point", "list", self.machine()["id"])
        return sorted(found, key=lambda p: p["sequence"], reverse=True)

    def latest(self):
        points = self.points()
        check(points, "there is no recovery point")
        return points[0]

    def wait_point_after(self, moment, timeout=60):
        """The first point listed whose content is of `moment` (seconds since 1970) or later."""
        def newer():
            later = [p for p in self.points() if point_time(p) >= moment]
            return later and later[-1]
        return wait_until(newer, "a newer recovery point", timeout, 0.2)

    def create_point(self, *options):
        return self.cli("point", "create", self.machine()["id"], *options)

    def settled_point(self):
        """A point of a disk that stands still: everything is flushed and nothing writes."""
        os.sync()
        return self.wait_point_after(time.time())

    def open(self, sequence=None, write=False):
        name = self.machine()["name"] + (f"@{sequence}" if sequence else "")
        answer = self.cli("point", "open", name, *(["--write"] if write else []))
        return Export(self, answer)

    # -- processes --

    def pid_of(self, role):
        """The process of hub, node, vault or agent under `leeward up`."""
        for pid in children_of(self.process.pid):
            if os.path.basename(command_line(pid)[0]) == f"leeward-{role}":
                return pid
        raise Failure(f"there is no leeward-{role}")

    def kill(self, role):
        pid = self.pid_of(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    def postgres_socket(self):
        """The folder of the private database's socket, which is elsewhere where the path of the hub's data is too long for one."""
        with open(os.path.join(self.data, "hub", "postgres", "postmaster.pid")) as f:
            return f.read().splitlines()[4]

    def sql(self, text):
        """In the hub's private database; what it answers, without headings."""
        return run("psql", "-X", "-q", "-A", "-t", "-h", self.postgres_socket(), "-U", "leeward", "-d", "leeward", "-v", "ON_ERROR_STOP=1",
                   "-c", text).strip()

    def postgres_pid(self):
        with open(os.path.join(self.data, "hub", "postgres", "postmaster.pid")) as f:
            return int(f.readline())


def same_after_all(site, disk):
    """A settled point of the site is the disk as it is."""
    point = site.settled_point()
    export = site.open(point["sequence"])
    check(image_of(export.copy()) == image_of(disk.device), "the point is not the disk")
    export.close()


def write_quickly(disk, blocks, seed):
    """Random blocks, which must not take the source long whatever is wrong elsewhere."""
    begin = time.monotonic()
    disk.fill_random(blocks, seed=seed)
    seconds = time.monotonic() - begin
    check(seconds < 20 * PATIENCE, f"{blocks} blocks took the source {seconds:.1f} s")


def point_time(point):
    return datetime.datetime.fromisoformat(point["time"].replace("Z", "+00:00")).timestamp()


class Export:
    """An open point. Its disks are NBD exports that any client can use."""

    def __init__(self, site, answer):
        self.site = site
        self.id = answer["id"]
        self.sequence = answer["sequence"]
        self.uris = {d["number"]: d["uri"] for d in answer["disks"]}
        self._undo = defer(self._close)

    def uri(self, number=None):
        return self.uris[min(self.uris) if number is None else number]

    def copy(self, number=None):
        """A raw image of one disk."""
        path = fresh("point.img")
        run("nbdcopy", self.uri(number), path, timeout=300)
        return path

    def attach(self, number=None):
        """A loop device over the export itself (nbdfuse): reads and writes go to the point or branch."""
        folder = fresh("nbdfuse")
        os.mkdir(folder)
        file = os.path.join(folder, "disk")
        process = start(["nbdfuse", file, self.uri(number)], log=folder + ".log")
        wait_until(lambda: os.path.exists(file) and os.path.getsize(file), "nbdfuse to serve the point", 20)
        unmounting = defer(run, "fusermount3", "-u", folder)
        device, detaching = attach_loop(file)
        return Attached(device, detaching, unmounting, process)

    def close(self):
        undo(self._undo)

    def _close(self):
        if self.site.process.poll() is None:
            self.site.cli("point", "close", self.id)


class Attached:
    def __init__(self, device, *undo_entries):
        self.device = device
        self.undo_entries = undo_entries
        self._mount = None

    def mount(self, options="defaults"):
        path = fresh("point")
        self._mount = mount_device(self.device, path, options)
        return path

    def detach(self):
        if self._mount:
            undo(self._mount)
        loop, fuse, process = self.undo_entries
        undo(loop)
        state = f"/sys/block/{os.path.basename(self.device)}/loop"
        wait_until(lambda: not os.path.exists(state), f"{self.device} to let go", 60)
        undo(fuse)
        stop(process)


def fs_check(kind, device):
    """A clean check without repair. The journal was replayed by a mount before, as after a power failure."""
    command = {"ext4": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n"], "btrfs": ["btrfs", "check", "--readonly"]}[kind]
    run(*command, device, timeout=180)


# ---- a private PostgreSQL on a protected disk ----

class Postgres:
    """Runs as `postgres` (or nobody) in `folder`/pg, with its socket in the test's own folder."""

    def __init__(self, folder, create=True):
        self.folder = os.path.join(folder, "pg")
        self.socket = self._socket_folder()
        self.env = dict(os.environ, PGHOST=self.socket, PGUSER="postgres", PGDATABASE="postgres", LC_ALL="C")
        self._undo = None
        if create:
            os.mkdir(self.folder)
            shutil.chown(self.folder, "postgres", "postgres")
        shutil.chown(self.socket, "postgres", "postgres")
        if create:
            self._as_postgres("initdb", "-D", self.folder, "-A", "trust", "-N", "--no-instructions")

    @staticmethod
    def _socket_folder():
        """Where the path of a socket is not too long for one (107 bytes)."""
        path = fresh("pgsock")
        if len(os.fsencode(path + "/.s.PGSQL.5432")) > 100:
            path = tempfile.mkdtemp(prefix="leeward-pgsock.", dir="/tmp")
            defer(shutil.rmtree, path, True)
        else:
            os.mkdir(path)
        return path

    def _as_postgres(self, program, *arguments, **options):
        return run("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", os.path.join(PG_BIN, program),
                   *arguments, cwd="/", **options)

    def start(self):
        log = os.path.join(self.socket, "log")
        self._as_postgres("pg_ctl", "-D", self.folder, "-l", log, "-w", "-t", "60", "-o",
                          f"-k {self.socket} -c listen_addresses= -c shared_buffers=32MB -c max_connections=30", "start")
        self._undo = defer(self._stop)

    def stop(self):
        undo(self._undo)

    def _stop(self):
        self._as_postgres("pg_ctl", "-D", self.folder, "-w", "-m", "immediate", "stop", ok=None)

    def sql(self, text):
        return run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text, env=self.env).strip()

    def pgbench(self, *arguments):
        return start([os.path.join(PG_BIN, "pgbench"), *map(str, arguments)], env=self.env, log=fresh("pgbench.log"))


# ---- test programs ----

_tests = []


def test(function):
    _tests.append(function)
    return function


def main(chained=False):
    """Runs the tests, or those that are named. `chained`: each builds on the ones before; after the first that fails, the rest have not happened."""
    only = sys.argv[1:]
    failed = 0
    temp_dir()
    for function in _tests:
        if only and function.__name__ not in only:
            continue
        if chained and failed:
            print(f"FAIL {function.__name__}: not tried, it builds on one that failed", flush=True)
            continue
        mark = len(_undo)
        note("begin", function.__name__)
        try:
            function()
            print(f"PASS {function.__name__}", flush=True)
        except Skipped as lacking:
            print(f"SKIP {function.__name__}: {lacking}", flush=True)
        except Exception as problem:
            failed += 1
            reason = " ".join(f"{type(problem).__name__}: {problem}".split())
            traceback.print_exc()
            print(f"FAIL {function.__name__}: {reason[:500]}", flush=True)
        while len(_undo) > mark:
            undo_last()
    undo_all()
    sys.exit(1 if failed else 0)


def undo_last():
    function, arguments = _undo.pop()
    try:
        function(*arguments)
    except Exception as problem:
        note("cleaning up:", function.__name__, problem)
