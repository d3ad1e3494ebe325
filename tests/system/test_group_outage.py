#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A group whose settings change, whose network is cut without a word to anybody, and whose coordinator dies or reaches nobody: machines
go on with points of their own, no half-made group point is listed, and the group makes points again by itself."""
import os

from fleet import Fleet
from grpc_client import message, read
from harness import check, is_frozen, main, note, test, wait_until

PORT = 20004


def told(machine):
    """What the hub has told an agent of its group; the agent keeps it before it follows it."""
    return message("leeward.control.v1.Directive").FromString(read(os.path.join(machine.data, "desired.pb"))).agent.group


def until_told(machines, **settings):
    wait_until(lambda: all(getattr(told(m), k) == v for m in machines for k, v in settings.items()), f"the agents to hear {settings}", 30)


def newest(machine):
    return max((p["sequence"] for p in machine.fleet.site.items("point", "list", machine.name, "--limit", "5")), default=0)


def go_on(machines, count=3):
    """So many more points of each machine's own."""
    before = {m.name: newest(m) for m in machines}
    for m in machines:
        wait_until(lambda m=m: newest(m) >= before[m.name] + count, f"{count} more points of {m.name}", 60, 0.5)


def attempts(machine, **fields):
    """Group points that a machine has coordinated."""
    return [l for l in machine.lines("group_point") if all(l.get(k) == v for k, v in fields.items())]


def check_whole(fleet, group, members):
    for p in fleet.group_points(group):
        check({part["machine_name"] for part in p["points"]} == {m.name for m in members}, f"a half-made group point is listed: {p}")
    check(not any(is_frozen(m.mount_point) for m in members), "a file system is frozen")


@test
def settings_of_a_running_group_are_followed():
    fleet = Fleet(2)
    fleet.protect()
    fleet.create_group("pair", fleet.machines, interval="0")
    processes = [m.process.pid for m in fleet.machines]
    until_told(fleet.machines, interval_usec=0)
    wait_until(lambda: all(len(told(m).members) == 2 for m in fleet.machines), "the agents to hear of each other", 30)
    go_on(fleet.machines)
    check(not any(attempts(m) for m in fleet.machines), "group points that nobody asked for")

    fleet.site.cli("group", "set", "pair", "--interval", "1s", "--freeze-budget", "1500ms")
    fleet.wait_group_points("pair", 3)
    until_told(fleet.machines, interval_usec=1000000, freeze_budget_usec=1500000)

    fleet.site.cli("group", "set", "pair", "--interval", "0")
    until_told(fleet.machines, interval_usec=0)
    go_on(fleet.machines)
    made = sum(len(attempts(m)) for m in fleet.machines)
    go_on(fleet.machines, 5)
    check(sum(len(attempts(m)) for m in fleet.machines) == made, "group points go on at an interval of 0")
    answer = fleet.site.cli("group", "point", "pair", timeout=150)
    check(fleet.group_points("pair")[0]["id"] == (answer.get("result") or answer)["group_point_id"], "the one that was asked for is not the newest")
    check([m.process.pid for m in fleet.machines] == processes and all(m.is_running() for m in fleet.machines), "an agent was started anew")
    check_whole(fleet, "pair", fleet.machines)


def trio():
    """Three machines that make group points."""
    fleet = Fleet(3)
    fleet.protect()
    fleet.create_group("trio", fleet.machines)
    fleet.wait_group_points("trio", 2)
    return fleet


@test
def a_cut_that_nobody_is_told_of():
    fleet = trio()
    first, _, third = fleet.machines

    # Its group port alone, so that it goes on as well; then its cable. Nobody gets an answer from it.
    for what, cut, alive in (("port", lambda is_cut: fleet.bridge.silence_port(third.number, PORT, ("dport", "sport"), is_cut), fleet.machines),
                             ("cable", lambda is_cut: fleet.bridge.cut(third.number, is_cut), fleet.machines[:2])):
        before = len(attempts(first, made="false", member=third.name))
        cut(True)
        wait_until(lambda: len(attempts(first, made="false", member=third.name)) >= before + 2, f"group points to be missed without {what}", 60)
        go_on(alive)
        wait_until(lambda: fleet.group("trio")["culprit_name"] == third.name, "the machine that is cut off to be named", 30)
        check_whole(fleet, "trio", fleet.machines)
        known = {p["id"] for p in fleet.group_points("trio")}
        cut(False)
        missed = len(attempts(first, made="false"))
        fleet.wait_group_points("trio", 2, known)
        since = attempts(first, made="false")[missed:]
        note(f"{what}: {len(since)} more group points were missed after it was there again:", *[l["text"].split("why=")[1] for l in since])
        unheard = [l for l in since if l["member"] == third.name and "not ready" in l["text"]]  # the attempt that was under way, and no other
        check(len(unheard) <= 1, f"it was there again, and was not called: {unheard}")
        go_on(fleet.machines)
        check_whole(fleet, "trio", fleet.machines)
    wait_until(lambda: fleet.group("trio")["health"] == "healthy", "the group to be healthy again", 30)


@test
def the_next_one_coordinates_and_gives_it_back():
    fleet = trio()
    first, second, third = fleet.machines

    first.kill()
    wait_until(lambda: attempts(second, made="false", member=first.name), "the next member to coordinate", 30)
    wait_until(lambda: fleet.group("trio")["coordinated_by_name"] == second.name, "the hub to hear who coordinates", 30)
    check(fleet.group("trio")["culprit_name"] == first.name, "the machine that is down is not named")
    go_on([second, third])
    check_whole(fleet, "trio", fleet.machines)

    # It is back, is reached, and reaches nobody: what is answered to its calls vanishes. Its own attempts go on beside the others'.
    fleet.bridge.silence_port(first.number, PORT, ("sport",))
    first.start()
    wait_until(lambda: len(attempts(second, made="true")) >= 3, "group points of the next member", 90)
    wait_until(lambda: {l["point"] for l in attempts(second, made="true")[:3]} <= {p["id"] for p in fleet.group_points("trio")},
               "the hub to list them", 30)
    check(not third.lines("group_coordinator_changed"), "the member after the next one coordinates as well")

    # And reaches them again: then it is the one, and the only one.
    fleet.bridge.silence_port(first.number, PORT, ("sport",), False)
    begun = len(attempts(first, made="true"))
    wait_until(lambda: len(attempts(first, made="true")) >= begun + 3, "group points of the first member", 60)
    wait_until(lambda: "is back" in second.lines("group_coordinator_changed")[-1]["text"], "the other one to give way", 30)
    others = len(attempts(second))
    wait_until(lambda: len(attempts(first, made="true")) >= begun + 8, "more group points of the first member", 60)
    check(len(attempts(second)) == others and not attempts(third), "two machines coordinate")
    wait_until(lambda: fleet.group("trio")["coordinated_by_name"] == first.name, "the hub to hear who coordinates", 30)
    check_whole(fleet, "trio", fleet.machines)


if __name__ == "__main__":
    main()
