#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: made, checked, and installed in a Debian with systemd, where they run, are upgraded and go away again."""
import functools
import glob
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e", "vm"))
import harness
from booted import Booted, packages_of, tree
from harness import BIN, MIB, ROOT, Disk, Failure, check, fresh, image_of, main, note, run, test, wait_until
from rescue import rescue_image

PACKAGING = os.path.join(ROOT, "packaging")
UNITS = {"hub": 2.0, "node": 2.0, "vault": 2.0, "agent": 3.6}
PACKAGES = ["agent", "cli", "hub", "nbd", "node", "vault"]
# What a purge leaves behind, and why: users are never removed (their numbers would be given to others), and so is what the vault
# keeps. The rest is of dpkg, systemd and the packages that they need.
LEFT = re.compile(r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/var/lib/dpkg/|/var/cache/|/var/log/|/var/lib/leeward/vault/|"
                  r"/var/lib/systemd/|/etc/machine-id|/etc/ld.so.cache|/etc/.pwd.lock|/root/")


def make_packages(release, name, epoch=None):
    folder = fresh(name)
    env = dict(os.environ, **({"SOURCE_DATE_EPOCH": str(epoch)} if epoch else {}))
    run(os.path.join(PACKAGING, "make-packages.sh"), os.path.dirname(BIN), folder, release, env=env, timeout=300)
    debs = sorted(glob.glob(folder + "/*.deb"))
    check([re.match(r"leeward-(\w+)_", os.path.basename(d)).group(1) for d in debs] == PACKAGES, f"made {debs}")
    return debs


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def bring_up():
    """What all tests need: the packages, and a machine with a disk to protect."""
    global debs, disk, machine
    run(os.path.join(ROOT, "cmake", "install-packages.sh"), os.path.join(ROOT, "tests", "system", "packaging", "packages.txt"),
        timeout=600)
    debs = make_packages(1, "packages", epoch=1800000000)
    disk = Disk(64 * MIB)
    disk.fill_random(4000)
    lower = tree("packages", sorted({*packages_of(debs), "systemd-sysv", "dbus", "iproute2", "procps", "postgresql", "qemu-system-x86"}))
    machine = Booted(lower, [disk.device])


def install(packages):
    """All of them in one go, as apt would."""
    folder = machine.path("/var/cache/leeward-packages")
    os.makedirs(folder, exist_ok=True)
    for old in glob.glob(folder + "/*"):
        os.unlink(old)
    for deb in packages:
        with open(deb, "rb") as source, open(os.path.join(folder, os.path.basename(deb)), "wb") as target:
            target.write(source.read())
    machine("bash", "-c", "dpkg --install /var/cache/leeward-packages/*.deb", timeout=300)


def command(*words):
    return ["env", "LEEWARD_URL=https://127.0.0.1", "LEEWARD_CA=/var/lib/leeward/hub/ca/ca.pem", f"LEEWARD_TOKEN={admin_token()}",
            "leeward", *words, "-o", "json"]


def cli(*words):
    text = machine(*command(*words))
    return json.loads(text) if text.strip() else None


def admin_token():
    with open(machine.path("/var/lib/leeward/hub/admin.token")) as f:
        return f.read().strip()


def items(*words):
    return cli(*words)["items"]


def configure(role, *lines):
    with open(machine.path(f"/etc/leeward/{role}.conf"), "a") as f:
        f.write("".join(line + "\n" for line in lines))


def files_of():
    """Every file of the machine with what it is, but for what is in memory."""
    found = {}
    for top in ("/etc", "/usr", "/var", "/root", "/home", "/opt", "/srv"):
        for folder, _, names in os.walk(machine.path(top)):
            for name in names:
                path = os.path.join(folder, name)
                state = os.lstat(path)
                found[path[len(machine.root):]] = (state.st_mode, state.st_size)
            found[folder[len(machine.root):] + "/"] = os.lstat(folder).st_mode
    return found


def points_after(moment):
    def newer():
        found = [p for p in items("point", "list", "leeward-test", "--limit", "5") if harness.point_time(p) >= moment]
        return found and max(found, key=lambda p: p["sequence"])
    return wait_until(newer, "a newer recovery point", 120, 0.3)


def compare_with_disk():
    """A point of now is what the disk is."""
    os.sync()
    point = points_after(time.time())
    opened = cli("point", "open", f"leeward-test@{point['sequence']}")
    uri = next(d["uri"] for d in opened["disks"])
    socket = re.search(r"socket=([^&]+)", uri).group(1)
    copy, link = fresh("copy"), fresh("s")  # the socket's own path is too long for one
    os.symlink(machine.seen(socket), link)
    run("nbdcopy", uri.replace(socket, link), copy, timeout=180)
    check(image_of(copy) == image_of(disk.device), "the point is not what the disk is")
    os.unlink(copy)
    cli("point", "close", opened["id"])


def check_no_resync(known, what):
    if resyncs() != known:
        note(machine("journalctl", "--no-pager", "--lines=80", "--unit=leeward-agent"))
        raise Failure(f"{what} cost a resynchronization")


def resyncs():
    return sum("resync" in event["code"] for event in items("event", "list"))


# ---- without a machine ----

@test
def test_same_bytes_again():
    """The same build gives the same packages at another time of day, and the time in them is that of the sources."""
    again = make_packages(1, "again", epoch=1800000000)
    for one, other in zip(debs, again):
        check(sha256(one) == sha256(other), f"{os.path.basename(one)} is not the same twice")
    check("2027-01-15" in run("dpkg-deb", "-c", debs[0]), "the files are not as old as they were told to be")


@test
def test_hardening():
    for role, most in UNITS.items():
        run("systemd-analyze", "security", "--offline=yes", f"--threshold={int(most * 10)}",
            os.path.join(PACKAGING, "systemd", f"leeward-{role}.service"))


@test
def test_lintian():
    said = run("lintian", "--allow-root", "--suppress-tags", "initial-upload-closes-no-bugs", "--fail-on", "error,warning", *debs,
               ok=None, timeout=300)
    check(not said.strip(), said)


@test
def test_depends_on_what_it_links():
    """dpkg-shlibdeps found the libraries: each daemon names the ones that it cannot run without."""
    for role, library in {"hub": "libpq5", "node": "libnghttp2-14", "vault": "libcurl4", "agent": "libmount1", "cli": "libcurl4",
                          "nbd": "libzstd1"}.items():
        deb = next(d for d in debs if f"leeward-{role}_" in d)
        depends = run("dpkg-deb", "-f", deb, "Depends")
        check(library in depends, f"leeward-{role} depends on: {depends}")


# ---- in it: each goes on where the one before stopped ----

_stopped = []


def step(function):
    @functools.wraps(function)
    def once():
        check(not _stopped, f"{_stopped and _stopped[0]} failed, and this goes on from there")
        _stopped.append(function.__name__)
        function()
        _stopped.pop()
    return test(once)



@step
def test_install():
    """The hub comes up by itself; the others wait until somebody says where it is, and are no failures meanwhile."""
    global before
    before = files_of()
    install(debs)
    machine.wait_active("leeward-hub", 180)
    for role in ("node", "vault", "agent"):
        check(machine.shown(f"leeward-{role}", "ActiveState") == "inactive", f"leeward-{role} runs without a hub")
        check(machine("systemctl", "is-enabled", f"leeward-{role}").strip() == "enabled", f"leeward-{role} is not enabled")
    check(not machine("systemctl", "list-units", "--failed", "--no-legend", "leeward-*").strip(), "a unit failed")
    for role in ("hub", "node", "vault"):
        machine("bash", "-c", f"[ $(stat -c %U:%G:%a /etc/leeward/{role}.conf) = root:leeward-{role}:640 ]")
    check(machine("stat", "-c", "%U", "/var/lib/leeward/hub").strip() == "leeward-hub", "the hub's folder is not the hub's")


@step
def test_they_run():
    """Configured as the files say; all are up under systemd's restrictions, with its watchdog, and answer."""
    for role in ("node", "vault", "agent"):
        token = cli("enrol-token", "create", "--role", role)["token"]
        configure(role, "hub = 127.0.0.1:9442", f"token = {token}")
        machine("systemctl", "start", f"leeward-{role}", timeout=200)
    for role in UNITS:
        machine.wait_active(f"leeward-{role}")
        check(machine.shown(f"leeward-{role}", "Type") == "notify", "no notification")
        check(machine.shown(f"leeward-{role}", "WatchdogUSec") == "1min", "no watchdog")
    ready = machine("curl", "--silent", "--insecure", "--max-time", "30", "https://127.0.0.1/readyz", namespaces="--net")
    check("true" in ready or "ok" in ready, f"/readyz says {ready}")

    def online():
        status = cli("status")
        return status["nodes"]["online"] == 1 and status["vaults"]["online"] == 1 and items("machine", "list")[0]["online"]
    wait_until(online, "all to be online", 120, 0.5)


@step
def test_protects():
    """A disk is replicated by the agent in its sandbox, through the node into the vault, and opened by the plugin."""
    def key():
        return next((d["key"] for d in items("disk", "list", "leeward-test") if d["device"] == disk.device), None)
    cli("machine", "protect", "leeward-test", "--disk", wait_until(key, "the disk to be listed", 90, 0.5), "--no-wait")
    wait_until(lambda: items("machine", "list")[0]["state"] == "protected", "the machine to be protected", 240, 0.5)
    disk.fill_random(200, seed=2)
    compare_with_disk()


@step
def test_priorities():
    """The sandbox lets the thread that reads have its priority back after the copy, and gives the freeze helper and its guard theirs."""
    threads = [line.split() for line in machine("ps", "-eLo", "comm,ni,cls,rtprio", "--no-headers").splitlines()]
    found = {words[0]: words[1:] for words in threads if words[0] in ("capture", "leeward-freeze", "leeward-thaw")}
    check(found.get("capture") == ["0", "TS", "-"], f"the capture thread after the copy: {found}")
    check(found.get("leeward-freeze", [])[1:] == ["RR", "10"] and found.get("leeward-thaw", [])[1:] == ["RR", "11"], f"the helper and its guard: {found}")


@step
def test_prepares_replicas():
    """The hub in its sandbox starts the machine that does fix-ups, which reads the disk through the vault's socket, and has nobody's rights to it but the
    group's: what it says of the disk is that it holds no system."""
    folder = machine.path("/usr/lib/leeward/rescue")
    shutil.copytree(rescue_image(), folder)
    failed = machine(*command("failover", "preview", "leeward-test", "--target", "disks"), ok=(3,), timeout=600)
    said = json.loads(failed) if failed.strip().startswith("{") else {}
    jobs = [j for j in items("job", "list") if j["kind"] == "failover_preview"]
    check(jobs[0]["status"] == "failed" and "root file system" in jobs[0]["problem"]["detail"], f"{said} {jobs[0]['problem']}")
    machine("bash", "-c", "[ $(stat -c %U:%G:%a /run/leeward-exports) = leeward-vault:leeward-exports:2750 ]")
    shutil.rmtree(folder)


@step
def test_watchdog():
    """A daemon whose main loop stands still is ended and started again."""
    machine("mkdir", "-p", "/run/systemd/system/leeward-node.service.d")
    machine("bash", "-c", "printf '[Service]\\nWatchdogSec=3\\n' >/run/systemd/system/leeward-node.service.d/watchdog.conf")
    machine("systemctl", "daemon-reload")
    machine("systemctl", "restart", "leeward-node", timeout=200)
    machine.wait_active("leeward-node")
    stuck = machine.shown("leeward-node", "MainPID")
    machine("kill", "-STOP", stuck)
    wait_until(lambda: machine.shown("leeward-node", "MainPID") not in (stuck, "0"), "the node to be started again", 180, 0.3)
    machine.wait_active("leeward-node")
    check("atchdog" in machine("journalctl", "--no-pager", "-u", "leeward-node"), "nothing about the watchdog in the journal")
    machine("rm", "-r", "/run/systemd/system/leeward-node.service.d")
    machine("systemctl", "daemon-reload")


@step
def test_upgrade():
    """All daemons are new after it, files that the administrator changed are not, and the agent missed nothing."""
    configure("hub", "# changed by hand", "log-level = debug")
    changed = sha256(machine.path("/etc/leeward/hub.conf"))
    pids = {role: machine.shown(f"leeward-{role}", "MainPID") for role in UNITS}
    known = resyncs()
    newer = make_packages(2, "newer")
    over = threading.Event()

    def write():
        seed = 100
        while not over.wait(0.05):
            disk.fill_random(10, seed)
            seed += 1
    writer = threading.Thread(target=write)
    writer.start()
    try:
        install(newer)
    finally:
        over.set()
        writer.join()
    for role in UNITS:
        machine.wait_active(f"leeward-{role}")
        check(machine.shown(f"leeward-{role}", "MainPID") != pids[role], f"leeward-{role} is the old one")
        check(machine("dpkg-query", "-W", "-f", "${Version}", f"leeward-{role}").endswith("-2"), "the old version")
    check(sha256(machine.path("/etc/leeward/hub.conf")) == changed, "hub.conf was changed by the upgrade")
    check(machine("stat", "-c", "%U:%G:%a", "/etc/leeward/hub.conf").strip() == "root:leeward-hub:640", "hub.conf has other rights")
    compare_with_disk()
    check_no_resync(known, "the upgrade")


@step
def test_written_while_stopped():
    """The tracker lives in the kernel: what is written between two agents is in the next point, and nothing is compared."""
    known = resyncs()
    machine("systemctl", "stop", "leeward-agent")
    disk.fill_random(300, seed=7)
    machine("systemctl", "start", "leeward-agent", timeout=200)
    compare_with_disk()
    check_no_resync(known, "a restart")


@step
def test_removal():
    """Removed: nothing runs and the tracker is out of the kernel. Purged: no file is left but recovery points and users."""
    check(machine("ls", "/sys/fs/bpf/leeward").strip(), "no tracker was pinned")
    names = [f"leeward-{p}" for p in PACKAGES]
    machine("dpkg", "--remove", *names, timeout=300)
    check(not machine("bash", "-c", "ls -d /sys/fs/bpf/leeward /run/leeward 2>/dev/null", ok=None).strip(), "the tracker is still there")
    check(not machine("pgrep", "-f", "/usr/bin/leeward-", ok=None).strip(), "something still runs")
    check(os.path.exists(machine.path("/etc/leeward/node.conf")), "a removal took the configuration")
    machine("dpkg", "--purge", *names, timeout=300)
    after = files_of()
    left = sorted(p for p in after if p not in before and not LEFT.search(p))
    left = [p for p in left if p not in ("/var/lib/leeward/",)]
    check(not left, f"a purge left {left[:20]}")
    gone = sorted(p for p in before if p not in after and not LEFT.search(p))
    check(not gone, f"a purge took {gone[:20]}")
    check(os.path.exists(machine.path("/var/lib/leeward/vault/vault.key")), "a purge took the vault's key")


bring_up()
main()
