#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A libvirt daemon that stands still (SIGSTOP): before anybody connects, while a replica is watched, and while it is being created. Nothing of the hub hangs on it, and
what it does late, when it goes on, is found by whoever asks next. And one that is well is waited for no longer than needed. The replica's disk has no system; what
matters is where it is."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hypervisor import Hypervisor  # noqa: E402
from harness import BIN, MIB, CliError, Disk, Site, check, command_line, defer, fresh, main, note, start, test, wait_until  # noqa: E402

SMALL = ["--memory-mib", "64", "--cpus", "1"]
NEVER = ["--boot-serial", "no such words"]
SOON = [*NEVER, "--boot-timeout", "1s"]
OPEN_S, KEEPALIVE_S = 30, 20  # hub/fabric/libvirt_child.c, libvirt_host.c
SLACK_S = 60


class Lab:
    def __init__(self):
        self.host = Hypervisor()
        defer(self.go_on)
        self.disk = Disk(64 * MIB)
        self.site = Site()
        self.site.protect(self.disk)
        self.name = self.site.machine()["name"]
        self.site.wait_point_after(time.time())
        self.target("kvm")

    def target(self, name, **config):
        self.site.cli("target", "create", name, "libvirt", "--config", json.dumps({"uri": self.host.uri, "accelerate": False, **config}))

    def freeze(self):
        os.kill(self.host.process.pid, signal.SIGSTOP)

    def is_frozen(self):
        with open(f"/proc/{self.host.process.pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "T"

    def go_on(self):
        os.kill(self.host.process.pid, signal.SIGCONT)

    def stopping_target(self, name):
        """One whose qemu stops the daemon that starts it, in the middle of that, once."""
        program, once = fresh(name), fresh(name + ".once")
        with open(program, "w") as f:
            f.write(f'#!/bin/sh\ncase "$*" in *guest=leeward*) [ -e {once} ] || {{ : >{once}; kill -STOP {self.host.process.pid}; }};; esac\n'
                    'exec qemu-system-x86_64 "$@"\n')
        os.chmod(program, 0o755)
        self.target(name, emulator=program)

    def drill(self, target, *options):
        """In the background."""
        self.earlier = {j["id"] for j in self.site.items("job", "list")}
        return start([os.path.join(BIN, "leeward"), "failover", "test", self.name, "--target", target, *SMALL, *options, "-o", "json"],
                     log=fresh("drill"), env=self.site.env)

    def newest(self):
        return max(self.site.items("failover", "list"), key=lambda f: f["requested_at"])

    def job(self, kind):
        """Of the drill."""
        return next((j for j in self.site.items("job", "list") if j["kind"] == kind and j["id"] not in self.earlier), {"status": "none"})

    def wait_failed(self, kind, timeout):
        begin = time.monotonic()
        wait_until(lambda: self.job(kind)["status"] in ("failed", "succeeded"), f"the job {kind} to end", timeout)
        job = self.job(kind)
        check(job["status"] == "failed" and "libvirt host" in json.dumps(job), f"the job {kind}: {job}")
        note(f"{kind}: {job['problem']} after {time.monotonic() - begin:.0f} s")

    def check_nothing_hangs(self):
        wait_until(lambda: not [p for p in os.listdir("/proc") if p.isdigit() and "libvirt-call" in command_line(int(p))],
                   "the hub's processes that asked the host to be gone", 10)

    def check_screen(self, failover):
        """It is shown, and not waited for where the host stands still."""
        path = fresh("screen.png")
        self.site.cli("failover", "screenshot", failover, path)
        with open(path, "rb") as f:
            check(f.read(8) == b"\x89PNG\r\n\x1a\n", "the screen is no PNG")
        self.freeze()
        try:
            self.site.cli("failover", "screenshot", failover, fresh("screen.png"), timeout=SLACK_S)
            raise AssertionError("a host that stands still showed a screen")
        except CliError as refusal:
            check("did not answer" in refusal.text, f"not said: {refusal.text}")
        finally:
            self.go_on()
        self.check_nothing_hangs()

    def clean_up(self):
        drill = self.newest()
        self.site.cli("failover", "cleanup", drill["id"], "--outcome", "failed", timeout=300)
        check(not self.host.domains() and not self.site.items("branch", "list"), f"the cleanup left something: {self.host.domains()}")
        self.check_nothing_hangs()


lab = None


@test
def a_host_that_stands_still_before_it_is_asked_is_given_up():
    lab.freeze()
    begin = time.monotonic()
    try:
        lab.site.cli("failover", "test", lab.name, "--target", "kvm", *SMALL, *SOON, timeout=OPEN_S + SLACK_S)
        raise AssertionError("a host that stands still took a replica")
    except CliError as refusal:
        check("does not answer" in refusal.text, f"not said: {refusal.text}")
    note(f"given up after {time.monotonic() - begin:.0f} s")
    lab.check_nothing_hangs()
    lab.go_on()
    drill = lab.site.cli("failover", "test", lab.name, "--target", "kvm", *SMALL, *SOON, timeout=300)
    check(lab.host.domains() == [drill["id"]], "the next one does not run")
    lab.check_screen(drill["id"])
    lab.clean_up()


@test
def a_replica_that_nothing_is_asked_of_runs_at_once():
    """It has no card, so that no address is to be waited for, and no boot check."""
    drill = lab.site.cli("failover", "test", lab.name, "--target", "kvm", *SMALL, timeout=SLACK_S)
    check(drill["state"] == "running" and drill["verdict"] == "unknown" and lab.host.domains() == [drill["id"]], f"{drill}")
    lab.clean_up()


@test
def a_host_that_stands_still_while_a_replica_boots_is_given_up():
    waiting = lab.drill("kvm", *NEVER, "--boot-timeout", "30m")
    wait_until(lambda: lab.host.domains(), "the replica to be started", 120)
    lab.freeze()
    lab.wait_failed("failover", KEEPALIVE_S + OPEN_S + SLACK_S)
    lab.wait_failed("failover_end", OPEN_S + SLACK_S)
    check(waiting.wait(60) != 0, "the CLI took it for a success")
    lab.check_nothing_hangs()
    lab.go_on()
    check(lab.newest()["state"] == "ending" and lab.host.domains() == [lab.newest()["id"]], "a replica that nobody could ask about was forgotten")
    lab.clean_up()


@test
def a_replica_that_is_created_late_stays_paused_and_is_found():
    lab.stopping_target("late")
    waiting = lab.drill("late", *NEVER, "--boot-timeout", "30m")
    wait_until(lab.is_frozen, "the daemon to stop while it creates the replica", 120)
    lab.wait_failed("failover", KEEPALIVE_S + OPEN_S + SLACK_S)
    lab.wait_failed("failover_end", OPEN_S + SLACK_S)
    check(waiting.wait(60) != 0, "the CLI took it for a success")
    lab.go_on()
    wait_until(lambda: lab.host.domains() and lab.host.virsh("domstate", lab.newest()["id"]).strip() == "paused", "the replica to be there, paused", 60)
    lab.clean_up()


@test
def a_start_that_may_have_happened_is_looked_up_and_not_repeated():
    lab.stopping_target("slow")
    waiting = lab.drill("slow", *NEVER, "--boot-timeout", "10s")
    wait_until(lab.is_frozen, "the daemon to stop while it creates the replica", 120)
    time.sleep(KEEPALIVE_S + 5)  # the connection is given up meanwhile, and another one waits to be opened
    lab.go_on()
    check(waiting.wait(120) == 0, "the drill failed")
    drill = lab.newest()
    check(drill["state"] == "running" and drill["verdict"] == "failed" and "not seen" in drill["verdict_text"], f"{drill}")
    check(lab.host.domains() == [drill["id"]] and lab.host.virsh("domstate", drill["id"]).strip() == "running", "not one replica, running")
    lab.clean_up()


if __name__ == "__main__":
    lab = Lab()
    main()
