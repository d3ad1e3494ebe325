#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may speak on the group's port and what the worst of them can do: strangers, members that were removed, duplicates, messages
that are none, and a coordinator that falls silent in the middle of a freeze. A stock gRPC client plays them all, with real
certificates. Nothing stays frozen, and group points go on. And what happens to an agent in the middle of a freeze: killed, stopped, out
of memory (P4)."""
import os
import queue
import random
import select
import signal
import threading
import time
import uuid

from grpc_client import channel_to, failure, grpc, message
from fleet import Fleet
from harness import MIB, Failure, check, is_frozen, main, note, run, start, test, wait_until
from memory_group import MemoryGroup

POINT = "/leeward.group.v1.Group/Point"
PREPARE, FREEZE, READ, RELEASE, COMMIT, ABORT = 1, 2, 3, 4, 5, 6
PREPARED, FROZEN, HELD, CAPTURED, DONE, FAILED = 1, 2, 3, 4, 5, 6
LIMIT_S = 0.3  # writable again within this, whatever happens to the agent
TRIES = 3  # of each harm, of which the one in the middle counts: on a busy machine the test itself may be late
FAR_S, BUDGET_S = 10, 0.2  # a budget that cannot be what ended a freeze in time; and that of a policy which says nothing


def channel(fleet, machine, folder=None, name="cert.pem"):
    """To a machine's group port, with the identity that lies in a folder."""
    ca = os.path.join(fleet.site.data, "hub", "ca", "ca.pem")
    pair = (os.path.join(folder, name), os.path.join(folder, "key.pem")) if folder else (None, None)
    return channel_to(f"{machine.address}:20004", "agent.leeward.internal", ca, *pair)


def identity(machine):
    return os.path.join(machine.data, "identity")


class Orders:
    """A call that gives orders one by one."""

    def __init__(self, chan):
        self.queue, self.said_at = queue.Queue(), {}
        self.answers = chan.stream_stream(POINT, message("leeward.group.v1.Order").SerializeToString,
                                          message("leeward.group.v1.Answer").FromString)(iter(self.queue.get, None), timeout=60)

    def say(self, kind, **fields):
        self.said_at[kind] = time.monotonic()
        self.queue.put(message("leeward.group.v1.Order")(kind=kind, **fields))

    def prepare(self, fleet, group, **other):
        """other: what is to be wrong."""
        shown = fleet.group(group)
        fields = {"group_id": uuid.UUID(shown["id"]).bytes, "membership": shown["membership"], "budget_usec": 500000,
                  "group_point_id": point_id(fleet, group), **other}
        self.say(PREPARE, prepare=message("leeward.group.v1.Prepare")(**fields))

    def hear(self):
        return next(self.answers)

    def end(self):
        self.queue.put(None)


def point_id(fleet, group):
    """An id as the coordinator would make it: the number of the group is that of an earlier point."""
    earlier = uuid.UUID(fleet.group_points(group)[0]["id"]).bytes
    return earlier[:4] + fleet.group(group)["membership"].to_bytes(2, "big") + b"\x80\x01\x80" + os.urandom(7)


def refused(call, codes, who):
    problem = failure(call)
    check(problem is not None and problem.code() in codes, f"{who}: {problem.code() if problem else 'was let in'}")


def make_point(fleet, group):
    answer = fleet.site.cli("group", "point", group, timeout=150)
    return (answer.get("result") or answer)["group_point_id"]


def writes_within(machine, seconds):
    """How long the file system takes a new file after at most that many seconds."""
    begin = time.monotonic()
    run("touch", os.path.join(machine.mount_point, f"after-{time.monotonic()}"), timeout=seconds)
    return time.monotonic() - begin


@test
def only_members_may_speak():
    fleet = Fleet(4)
    inside, stranger = fleet.machines[:3], fleet.machines[3]
    fleet.protect()
    fleet.create_group("ring", inside, interval="1s")
    fleet.wait_group_points("ring", 1)
    target = inside[0]
    node = os.path.join(fleet.site.data, "node", "identity")
    denied = (grpc.StatusCode.PERMISSION_DENIED,)
    for who, folder in (("an agent of no group", identity(stranger)), ("a node", node)):
        refused(lambda folder=folder: Orders(channel(fleet, target, folder)).hear(), denied, who)
    refused(lambda: Orders(channel(fleet, target)).hear(), (grpc.StatusCode.UNAVAILABLE, *denied, grpc.StatusCode.UNAUTHENTICATED),
            "a caller without a certificate")

    # A member leaves while points are made: the others go on, it is refused, and its port is closed.
    leaver = inside[2]
    fleet.site.cli("group", "remove", "ring", leaver.name)
    points = fleet.wait_group_points("ring", 1, {p["id"] for p in fleet.group_points("ring")})
    wait_until(lambda: fleet.group_points("ring")[0]["machine_count"] == 2, "a group point of two machines", 60, 0.5)
    refused(lambda: Orders(channel(fleet, target, identity(leaver))).hear(), denied, "a member that was removed")
    wait_until(lambda: failure(lambda: Orders(channel(fleet, leaver, identity(target))).hear()).code() ==
               grpc.StatusCode.UNAVAILABLE, "the port of the removed member to be closed", 30, 0.5)

    # And joins again, together with the stranger.
    fleet.site.cli("group", "add", "ring", leaver.name, stranger.name)
    wait_until(lambda: fleet.group_points("ring")[0]["machine_count"] == 4, "a group point of four machines", 60, 0.5)
    check(points, "no group points after a member left")

    # One that cannot take part is named, and costs nobody else a freeze.
    stranger.kill()
    wait_until(lambda: fleet.group("ring")["culprit_name"] == stranger.name, "the dead member to be named", 60, 0.5)
    check(all(writes_within(m, 10) < 10 for m in inside), "a file system was held for a member that is dead")
    shown = fleet.group("ring")
    check(shown["health"] == "warning" and shown["cause"], f"health {shown['health']}: {shown['cause']}")
    comes_back_promptly(fleet, "ring", target, stranger)
    wait_until(lambda: fleet.group("ring")["health"] == "healthy", "the group to be healthy again", 60, 0.5)


def comes_back_promptly(fleet, group, coordinator, member):
    """However long it was away, a member is asked again as soon as its port is open: counted in group points, not in seconds."""
    def missed():
        return [l for l in coordinator.lines("group_point") if l["made"] == "false" and l["member"] == member.name]
    before = len(missed())
    wait_until(lambda: len(missed()) >= before + 10, "ten group points to be missed", 90, 0.3)
    known = {p["id"] for p in fleet.group_points(group)}
    listening = len(member.lines("group_listening"))
    member.start()
    try:
        wait_until(lambda: len(member.lines("group_listening")) > listening, "its port to be open", 60, 0.02)
    except Failure:
        with open(member.log, errors="replace") as f:
            note(f"{member.name} {'runs' if member.is_running() else 'has ended'}; its last words:\n" + "".join(f.readlines()[-40:]))
        raise
    until_then = len(missed())
    fleet.wait_group_points(group, 1, known)
    since = missed()[until_then:]
    note(f"{member.name} was back after {len(since)} more group points were missed:", *[l["text"].split("why=")[1] for l in since])
    check(len([l for l in since if "connect" in l["text"].lower()]) <= 3, "it listened, and was not called")


@test
def nothing_that_is_said_holds_a_machine():
    fleet = Fleet(2)
    target, liar = fleet.machines
    fleet.protect()
    fleet.create_group("pair", fleet.machines, interval="0")
    first = make_point(fleet, "pair")
    check([p["id"] for p in fleet.group_points("pair")] == [first], "the point that was asked for is not listed")
    speak = channel(fleet, target, identity(liar))
    pid = target.process.pid

    rng = random.Random(3)
    for shape in (b"", b"\xff" * 30, b"\x08\x63", b"\x08\x01", b"\x08\x01\x12\x04\x0a\x02ab", rng.randbytes(3000), rng.randbytes(5 * MIB)):
        problem = failure(lambda shape=shape: next(speak.stream_stream(POINT)(iter([shape] * 2), timeout=20)))
        check(problem is None or problem.code() != grpc.StatusCode.DEADLINE_EXCEEDED, f"silence after {len(shape)} bytes")
    for kind in (FREEZE, READ, RELEASE, COMMIT, ABORT):
        orders = Orders(speak)
        orders.say(kind)
        check(orders.hear().kind == FAILED, f"order {kind} before anything was prepared")
    for wrong in ({"membership": 77}, {"group_id": b"\1" * 16}, {"group_point_id": uuid.uuid4().bytes}):
        orders = Orders(speak)
        orders.prepare(fleet, "pair", **wrong)
        check(orders.hear().kind == FAILED, f"prepared with {wrong}")

    # A second call finds the seat taken; the first one goes on.
    one, two = Orders(speak), Orders(channel(fleet, target, identity(liar)))
    one.prepare(fleet, "pair")
    check(one.hear().kind == PREPARED, "a member was not let prepare")
    two.prepare(fleet, "pair")
    answer = two.hear()
    check(answer.kind == FAILED and answer.code == "conflict", f"a second coordinator heard {answer}")
    # Frozen, and then silence: the budget ends it. What it says after that is too late.
    one = brought(fleet, speak, HELD, one)
    took = writes_within(target, 15)
    note(f"a coordinator that fell silent held a write for {took * 1000:.0f} ms (budget 500 ms)")
    one.say(RELEASE)
    check(one.hear().kind == FAILED, "a member says that it was held after its freeze was over")

    # Frozen, and then the connection is gone: at once. The orders in between have no effect either.
    speak.close()
    again = channel(fleet, target, identity(liar))
    brought(fleet, again, HELD)
    again.close()
    writes_within(target, 15)
    # Thawed, and silent before the last word, or gone: it goes on with a point of its own, and that is all there is of it.
    silent = channel(fleet, target, identity(liar))
    one = brought(fleet, silent, CAPTURED)
    began = time.monotonic()
    check(one.hear().kind == FAILED, "a member waits for the last word for ever")
    note(f"a member gave up after {time.monotonic() - began:.1f} s without the last word")
    brought(fleet, silent, CAPTURED)
    silent.close()
    # A whole group point by a liar who says RELEASE and COMMIT alone is one machine's point with an id: nobody lists it.
    alone_channel = channel(fleet, target, identity(liar))
    brought(fleet, alone_channel, DONE)
    second = make_point(fleet, "pair")
    check([p["id"] for p in fleet.group_points("pair")] == [second, first], "a half-made group point is listed")
    marked = [p["group_point_id"] for p in fleet.site.items("point", "list", target.name) if p["group_point_id"]]
    check(set(marked) == {first, second}, f"points of {target.name} claim group points {marked}")
    check(target.process.pid == pid and target.is_running(), "the agent died")
    check(not any(is_frozen(m.mount_point) for m in fleet.machines), "a file system is frozen")


def prepared(fleet, chan, **other):
    """A call that has the seat; whoever had it before may just be leaving it."""
    def take():
        orders = Orders(chan)
        orders.prepare(fleet, "pair", **other)
        answer = orders.hear()
        check(answer.kind == PREPARED, f"{answer.code} {answer.text}")
        return orders
    return wait_until(take, "the seat to be free", 20, 0.2)


def brought(fleet, chan, state, orders=None, **other):
    """A call whose member has said `state`. On a busy machine the budget may run out between two orders: then once more."""
    for _ in range(20):
        orders = orders or prepared(fleet, chan, **other)
        for kind, expected in ((FREEZE, FROZEN), (READ, HELD), (RELEASE, CAPTURED), (COMMIT, DONE)):
            orders.say(kind)
            answer = orders.hear()
            if answer.kind == FAILED:
                note("once more:", answer.code, answer.text)
                break
            check(answer.kind == expected, f"order {kind} was answered {answer.kind}")
            if expected == state:
                return orders
        orders = None
    raise Failure(f"twenty times the budget ran out before {state}")


class Write:
    """A new file on a machine's file system, and when it was there."""

    def __init__(self, machine):
        self.process = start(["touch", os.path.join(machine.mount_point, f"held-{time.monotonic()}")])
        self.ended = None
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()

    def _wait(self):
        self.process.wait()
        self.ended = time.monotonic()

    def when_done(self):
        wait_until(lambda: self.ended, "a write to go on", 30, 0.005)
        return self.ended


class Victim:
    """The agent of a machine that is held in a freeze again and again, by a member of its group, and is hurt there."""

    def __init__(self):
        self.fleet = Fleet(2, policy_options=("--freeze-budget", f"{FAR_S}s"))
        self.machine, self.leader = self.fleet.machines
        self.fleet.protect()
        self.fleet.create_group("pair", self.fleet.machines, interval="0")
        make_point(self.fleet, "pair")

    def starts_again(self):
        listening = len(self.machine.lines("group_listening"))
        self.machine.start()
        wait_until(lambda: len(self.machine.lines("group_listening")) > listening, "the agent to listen again", 60, 0.1)

    def hurt(self, harm, state, budget_s):
        """How long after the harm a write went on that the freeze had held. None: the freeze was over before that. harm(): returns when it was."""
        calls = channel(self.fleet, self.machine, identity(self.leader))
        orders = brought(self.fleet, calls, state, budget_usec=int(budget_s * 1e6))
        write = Write(self.machine)
        time.sleep(0.02)
        held = write.ended is None
        hurt_at = harm()
        took = write.when_done() - hurt_at
        check(budget_s == BUDGET_S or hurt_at < orders.said_at[FREEZE] + FAR_S - 1, "the harm came so late that the budget may have ended the freeze")
        self.after(orders, calls)
        return took if held else None

    def after(self, orders, calls):
        orders.end()
        calls.close()
        if self.machine.process.poll() is None:
            self.machine.process.send_signal(signal.SIGCONT)
        else:
            self.starts_again()

    def is_writable_in_time(self, what, harm, state, budget_s):
        took = []
        for _ in range(5 * TRIES):
            one = self.hurt(harm, state, budget_s)
            took += [one] if one is not None else []
            if len(took) == TRIES:
                break
        check(len(took) == TRIES, f"the freeze held a write in {len(took)} of {5 * TRIES} tries")
        note(f"writable after its agent was {what}:", ", ".join(f"{1000 * t:.0f} ms" for t in took))
        check(sorted(took)[TRIES // 2] < LIMIT_S, f"after its agent was {what} a file system was held for {took} s")

    def makes_points_again(self):
        """One that has just started has to find its node first."""
        wait_until(lambda: make_point(self.fleet, "pair"), "a group point", 60, 0.5)

    def send(self, number):
        at = time.monotonic()
        self.machine.kill(number)
        return at


@test
def an_agent_that_is_killed_or_stopped_in_a_freeze_holds_nothing():
    """Who is killed would have held it for ten seconds; who is stopped cannot let go, and its budget is what ends that."""
    victim = Victim()
    victim.is_writable_in_time("killed", lambda: victim.send(signal.SIGKILL), HELD, FAR_S)
    victim.is_writable_in_time("stopped", lambda: victim.send(signal.SIGSTOP), FROZEN, BUDGET_S)
    victim.makes_points_again()


@test
def an_agent_that_runs_out_of_memory_in_a_freeze_holds_nothing():
    group = MemoryGroup("freeze")
    victim = Victim()

    def starve():
        process = victim.machine.process
        death = os.pidfd_open(process.pid)
        group.take(process.pid)
        starving = threading.Thread(target=group.exhaust, daemon=True)
        starving.start()
        seen, _, _ = select.select([death], [], [], 60)
        at = time.monotonic()
        os.close(death)
        check(seen and process.wait() == -signal.SIGKILL, "the agent was not killed")
        starving.join()
        return at
    victim.is_writable_in_time("killed for want of memory", starve, HELD, FAR_S)
    check(group.kills() >= TRIES, f"the kernel killed {group.kills()} processes")
    victim.makes_points_again()


@test
def without_the_hub_and_its_coordinator():
    fleet = Fleet(3)
    fleet.protect()
    fleet.create_group("trio", fleet.machines, interval="1s")
    fleet.wait_group_points("trio", 1)
    first, second = fleet.machines[:2]
    hub = fleet.site.pid_of("hub")
    os.kill(hub, signal.SIGSTOP)
    try:
        first.kill()
        wait_until(lambda: second.lines("group_coordinator_changed"), "the next member to take over", 60, 0.3)
        wait_until(lambda: [l for l in second.lines("group_point") if l["made"] == "false"], "it to try", 30, 0.3)
        made = len([l for l in first.lines("group_point") if l["made"] == "true"])
        first.start()
        wait_until(lambda: len([l for l in first.lines("group_point") if l["made"] == "true"]) >= made + 2,
                   "group points without the hub", 60, 0.3)
    finally:
        os.kill(hub, signal.SIGCONT)
    made_meanwhile = {l["point"] for l in first.lines("group_point") if l["made"] == "true"}
    wait_until(lambda: made_meanwhile <= {p["id"] for p in fleet.group_points("trio")},
               "the hub to list what was made while it stood still", 60, 0.5)
    wait_until(lambda: fleet.group("trio")["coordinated_by_name"] == first.name, "the coordinator to be itself again", 60, 0.5)


if __name__ == "__main__":
    main()
