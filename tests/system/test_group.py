#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Group points of several machines are of one moment.

A ledger writes record n to one machine and, once that is durable, record n + 1 to the next one, as machines do that move money
among them. In every group point the machines together hold an unbroken prefix, whatever is killed meanwhile. As a control, the
same is asked with one machine's own point of about the same time in place of its part of the group point, as if it alone had
not been frozen with the others: there the judge must find a hole.

LEEWARD_GROUP_MACHINES (10) and LEEWARD_GROUP_SECONDS (10) make it longer; LEEWARD_SEED repeats what is killed when.
"""
import os
import random
import signal
import time

from fleet import Fleet, file_of
from harness import Failure, check, is_frozen, main, note, point_time, test, wait_until
from ledger import BLOCK, Ledger

MACHINES = int(os.environ.get("LEEWARD_GROUP_MACHINES", "10"))
SECONDS = float(os.environ.get("LEEWARD_GROUP_SECONDS", "10"))
SEED = int(os.environ.get("LEEWARD_SEED", random.randrange(1 << 30)))
SLOTS = 512


def ledger_places(machines):
    """Files whose blocks are all there, so that a record that is missing is seen wherever it lies."""
    places = []
    for m in machines:
        path = os.path.join(m.mount_point, "ledger")
        with open(path, "wb") as f:
            f.write(bytes(SLOTS * BLOCK))
            os.fsync(f.fileno())
        places.append(path)
    return places


def parts(fleet, point):
    """The ledger's files of all machines in a group point, in the machines' order."""
    sequences = {p["machine_name"]: p["sequence"] for p in point["points"]}
    check(set(sequences) == {m.name for m in fleet.machines}, f"group point {point['id']} is of {sorted(sequences)}")
    check(all(p["frozen"] for p in point["points"]), f"a part of {point['id']} was not frozen")
    return [file_of(fleet.image(m, sequences[m.name]), "/ledger") for m in fleet.machines]


def moment_of(point):
    return min(point_time(p) for p in point["points"])


def judge(fleet, ledger, point):
    files = parts(fleet, point)
    last = ledger.judge(files, moment_of(point), slack_s=10)
    forget(files)
    return last


def forget(files):
    for path in files:
        os.unlink(path)


def judge_with_control(fleet, ledger, point):
    """The last record, and whether the judge found something amiss with one machine's own points in place of its part."""
    files = parts(fleet, point)
    last = ledger.judge(files, moment_of(point), slack_s=10)
    found = is_missed(fleet, ledger, point, files)
    forget(files)
    return last, found


def is_missed(fleet, ledger, point, files):
    odd = fleet.machines[len(point["id"]) % len(fleet.machines)]
    own = [p for p in fleet.site.items("point", "list", odd.name, "--limit", "400") if p["group_point_id"] != point["id"]]
    earlier = [p for p in own if point_time(p) < moment_of(point)]
    later = [p for p in own if point_time(p) > moment_of(point)]
    at = fleet.machines.index(odd)
    for other in (earlier[:1] + later[-1:]):
        strange = file_of(fleet.image(odd, other["sequence"]), "/ledger", check_fs=False)
        try:
            ledger.judge([*files[:at], strange, *files[at + 1:]], moment_of(point), slack_s=10)
        except Failure:
            return True
        finally:
            os.unlink(strange)
    return False


def writes_again(ledger, numbers, what):
    """The ledger goes on, so no file system under it is frozen."""
    wait_until(lambda: ledger.durable(numbers + 1), what, 20, 0.02)


def newest(ledger):
    return ledger.durable_before(time.time() + 60)


def kill_at_random(fleet, ledger, rng, seconds):
    """Kills and stops agents, the coordinator among them, at random moments; none may leave a file system frozen behind."""
    end = time.monotonic() + seconds
    kills = 0
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.2, 2.5))  # the moment is the random part
        victim = fleet.machines[0 if rng.random() < 0.4 else rng.randrange(len(fleet.machines))]
        number = signal.SIGKILL if rng.random() < 0.7 else signal.SIGSTOP
        victim.kill(number)
        writes_again(ledger, newest(ledger), f"writes after {victim.name} got signal {number}")
        if number == signal.SIGSTOP:
            victim.kill(signal.SIGCONT)
        else:
            victim.start()
        kills += 1
    return kills


@test
def every_group_point_is_of_one_moment():
    note(f"seed {SEED}, {MACHINES} machines, {SECONDS:g} s")
    rng = random.Random(SEED)
    fleet = Fleet(MACHINES)
    ledger = Ledger(ledger_places(fleet.machines), SLOTS)
    fleet.protect()
    fleet.create_group("bank", fleet.machines)
    calm = fleet.wait_group_points("bank", 3)
    answers = {p["id"]: judge_with_control(fleet, ledger, p) for p in calm[:2]}
    judged = {point: last for point, (last, _) in answers.items()}
    note("without kills: records up to", sorted(judged.values()), "freeze", fleet.group("bank")["last_freeze_seconds"], "s")
    check(any(found for _, found in answers.values()), "with one machine left out of the freeze, the judge found nothing amiss")

    known = {p["id"] for p in fleet.group_points("bank")}
    kills = kill_at_random(fleet, ledger, rng, SECONDS)
    after = fleet.wait_group_points("bank", 2, known | {p["id"] for p in fleet.group_points("bank")})
    wild = [p for p in fleet.group_points("bank") if p["id"] not in known]
    chosen = wild if len(wild) <= 4 or SECONDS > 60 else [*wild[:2], *rng.sample(wild[2:], 2)]
    for point in chosen:
        judged[point["id"]] = judge(fleet, ledger, point)
    ledger.stop()
    for m in fleet.machines:
        check(not is_frozen(m.mount_point), f"the file system of {m.name} is frozen")
    freezes = sorted(int(line["freeze_usec"]) for m in fleet.machines for line in m.lines("group_point") if line["made"] == "true")
    note(f"{kills} kills and stops, {len(wild)} group points, {len(judged)} judged, {max(judged.values())} records;",
         f"longest freeze of a member per group point: median {freezes[len(freezes) // 2] / 1000:g} ms, most {freezes[-1] / 1000:g} ms")
    check(after, "no group points after the kills")


if __name__ == "__main__":
    main()
