#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second vault keeps a copy of a machine's points: it takes what differs from the vault that the machine is replicated to, and goes on with each
new one, whatever is killed meanwhile."""
import glob
import json
import os
import random
import re
import resource
import signal
import time

from api_client import Api
from grpc_client import channel_to, grpc, message
from harness import MIB, CliError, Disk, Export, Site, check, fresh, image_of, main, note, run, same_after_all, test, wait_until
from log_segment import Segment
from vault_site import Vault


def refused(site, *command):
    try:
        site.cli(*command)
    except CliError as refusal:
        return refusal.text
    raise AssertionError(f"{command} was not refused")


def site_of(size_bytes, blocks):
    """A protected disk, and a second vault."""
    disk = Disk(size_bytes)
    disk.fill_random(blocks)
    site = Site()
    site.protect(disk)
    site.settled_point()
    return disk, site, site.machine()["name"], Vault(site, "old")


def copy_of(site, name):
    found = site.items("copy", "list", name)
    check(len(found) == 1, f"{len(found)} copies instead of one")
    kept = [c["machine_id"] for c in site.items("vault", "copies", found[0]["vault_id"])]
    check(kept == [found[0]["machine_id"]], f"copies that the vault has: {kept}")
    check(not site.items("vault", "copies", found[0]["source_vault_id"]), "the machine's own vault has a copy, too")
    return found[0]


def open_copy(site, name, point="latest"):
    return Export(site, site.cli("point", "open", f"{name}@{point}", "--vault", "old"))


def image_of_copy(site, name, point="latest"):
    opened = open_copy(site, name, point)
    image = image_of(opened.copy())
    opened.close()
    return image


def log_bytes(site, vault):
    """What the vault's own log of the machine takes."""
    folder = os.path.join(vault.data, "machines", site.machine()["id"], "main")
    if not os.path.isdir(folder):
        return 0
    return sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))


IDENTITY = ("identity/ca.pem", "identity/cert.pem", "identity/key.pem")


def ask(site, folder, method, request, answer):
    """How many messages the site's vault answers to whose identity that is, or why it does not."""
    channel = channel_to(site.port_base + 3, "vault.leeward.internal", *(os.path.join(folder, n) for n in IDENTITY))
    asking = message(f"leeward.vault.v1.{request}")
    call = channel.unary_stream(f"/leeward.vault.v1.Vault/{method}", asking.SerializeToString, message(f"leeward.vault.v1.{answer}").FromString)
    try:
        return len(list(call(asking(machine_id=bytes.fromhex(site.machine()["id"].replace("-", ""))), timeout=60)))
    except grpc.RpcError as problem:
        return problem.code()


def asks(site, vault):
    """Of points."""
    return ask(site, vault.data, "ListPoints", "ListPointsRequest", "Point")


def asks_damage(site, folder):
    return ask(site, folder, "Damage", "DamageRequest", "DamagedRecord")


def content_of(disk):
    run("blockdev", "--flushbufs", disk.device)
    with open(disk.device, "rb") as f:
        return f.read()


def limited(site, vault, rate):
    """What may come for copies; the vault has heard of it. Always in working hours, so the limit for these holds."""
    hours = ("--work-hours", "mon-sun 00:00-24:00", "--work-throttle", rate) if rate else ("--work-hours", "", "--work-throttle", 0)
    heard = len(vault.lines("copies_throttled"))
    site.cli("vault", "set", vault.name, *hours)
    check(vault.shown()["work_hours_throttle_bytes_per_second"] == rate, f"{vault.shown()}")
    wait_until(lambda: len(vault.lines("copies_throttled")) > heard, "the vault to hear of the limit", 30)


@test
def another_vault_takes_points_over_and_goes_on():
    disk, site, name, old = site_of(96 * MIB, 3000)
    own = site.machine()["vault_name"]
    check("replicated there" in refused(site, "copy", "create", name, own), "a copy in the machine's own vault")
    check("no vault" in refused(site, "copy", "create", name, "nowhere"), "a copy in a vault that there is not")
    check(asks(site, old) == grpc.StatusCode.PERMISSION_DENIED, "a vault reads what no copy of is wanted")

    first = site.settled_point()
    before = image_of(disk.device)
    written = content_of(disk)
    limited(site, old, 4 * MIB)
    began = time.monotonic()
    took = site.cli("copy", "create", name, "old")["result"]
    seconds = time.monotonic() - began
    note(f"{took['traffic_bytes'] / seconds / MIB:.2f} MiB/s under a limit of 4")
    check(took["traffic_bytes"] <= 4 * MIB * (seconds + 0.25), f"{took} in {seconds} s: more came than the limit allows")
    limited(site, old, 0)
    check(took["source_sequence"] >= first["sequence"] and took["taken_bytes"] <= 3000 * 4096, f"{took}")
    check(took["traffic_bytes"] <= 1.1 * took["taken_bytes"] + MIB, f"{took}")
    check(image_of_copy(site, name) == before, "the copy's point is not the disk")
    check("has a copy" in refused(site, "copy", "create", name, "old"), "two copies in one vault")
    check("read only" in refused(site, "point", "open", name, "--vault", "old", "--write"), "a branch of a copy")
    check("no such point" in refused(site, "point", "open", f"{name}@9999", "--vault", "old"), "a point that the copy has not")
    check(asks(site, old) > 0, "the vault may not read what it keeps a copy of")

    # It goes on by itself, whether the hub is there or not, with what has changed and nothing else.
    hub = site.pid_of("hub")
    os.kill(hub, signal.SIGSTOP)
    try:
        copied = len(old.lines("point_copied"))
        disk.fill_random(200, seed=2)
        os.sync()
        wait_until(lambda: len(old.lines("point_copied")) > copied + 1, "points to be copied without the hub", 60)
    finally:
        os.kill(hub, signal.SIGCONT)
    last = site.settled_point()
    follows = wait_until(lambda: (c := copy_of(site, name))["source_sequence"] >= last["sequence"] and c, "the copy to follow", 60, 0.3)
    changed = follows["taken_bytes"] - took["taken_bytes"]
    travelled = follows["traffic_bytes"] - took["traffic_bytes"]
    note("changed", changed, "travelled", travelled)
    check(0 < changed <= 200 * 4096 and travelled <= 1.1 * changed + MIB, f"{took} {follows}")
    _, _, metrics = Api(site.env).raw("GET", "/metrics")
    check(re.search(rb'^leeward_copy_behind_seconds\{machine="[0-9a-f-]+",name="[^"]+",vault="[0-9a-f-]+"\} [0-9.]+$', metrics, re.M), "no metric of it")
    check(follows["state"] == "following" and follows["behind_seconds"] < 30 and follows["point_count"] >= 2, f"{follows}")
    points = site.items("copy", "points", name, "old")
    check(len(points) >= 2 and points[0]["sequence"] > points[-1]["sequence"], f"{points}")
    check(image_of_copy(site, name) == image_of(disk.device), "the copy does not follow")
    check(image_of_copy(site, name, points[-1]["sequence"]) == before, "the copy's first point is not what it was")

    # What somebody asked for is never left out, however many newer points there are when the vault looks.
    old.process.send_signal(signal.SIGSTOP)
    try:
        disk.fill_random(40, seed=3)
        site.cli("point", "create", name, "--tag", "before the upgrade")
        tagged = image_of(disk.device)
        disk.fill_random(40, seed=4)
        site.settled_point()
    finally:
        old.process.send_signal(signal.SIGCONT)
    asked = wait_until(lambda: [p for p in site.items("copy", "points", name, "old") if p["tag"] == "before the upgrade"], "the point to be copied", 60, 0.3)
    check(image_of_copy(site, name, asked[0]["sequence"]) == tagged, "the point that was asked for is not what the disk was")
    check(image_of_copy(site, name, "before the upgrade") == tagged, "it does not open by its tag")

    # Nothing of it is in the machine's own list, and its own points go on.
    same_after_all(site, disk)
    check("has a copy" in refused(site, "machine", "erase", name) or "protected" in refused(site, "machine", "erase", name), "erased")
    verified = site.cli("vault", "verify", "old")["result"]
    check(verified["damage_count"] == 0 and int(verified["points"]) >= 2, f"{verified}")

    # What is damaged there of the newest content comes from the machine's own vault, and no newer point is needed for it.
    log = Segment(sorted(glob.glob(os.path.join(old.data, "machines", site.machine()["id"], "main", "*.seg")))[0])
    now = content_of(disk)
    offset = next(r[0] for r in log.records if any(now[r[2]:r[2] + r[3]]) and now[r[2]:r[2] + r[3]] == written[r[2]:r[2] + r[3]])
    log.flip(offset + 64 + 20)
    check("1 place is damaged" in refused(site, "vault", "verify", "old"), "the damage was not found")
    wait_until(lambda: old.lines("damage_asked_for"), "the vault to ask for what is damaged", 60, 0.3)
    wait_until(lambda: [line for line in old.lines("damage") if "state=healed" in line], "the damage to be healed", 90, 0.5)
    check(image_of_copy(site, name) == image_of(disk.device), "the copy is not the disk after the damage was healed")
    check(image_of_copy(site, name, points[-1]["sequence"]) == before, "the copy's first point was not healed with it")

    # It ends without a rest.
    site.cli("copy", "remove", name, "old")
    check(site.items("copy", "list", name) == [], "the copy is listed still")
    check("has no copy" in refused(site, "copy", "points", name, "old"), "points of a copy that was removed")
    check(asks(site, old) == grpc.StatusCode.PERMISSION_DENIED, "the vault reads what it keeps no copy of any more")
    wait_until(lambda: os.listdir(os.path.join(old.data, "machines")) == [], "what the vault had to be gone", 30)
    site.cli("copy", "create", name, "old")
    check(image_of_copy(site, name) == image_of(disk.device), "another copy after that is not the disk")


def allow_no_more_files(pid):
    """The process opens nothing from here on, and keeps what it has. What gives it its limits back."""
    taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(n for n in range(len(taken) + 1) if n not in taken), before[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@test
def what_the_other_vault_lacks_is_no_shortage_of_this_one():
    disk, site, name, old = site_of(16 * MIB, 200)
    site.cli("copy", "create", name, "old")
    old.process.send_signal(signal.SIGSTOP)
    try:
        disk.fill_random(40, seed=5)
        point = site.settled_point()
        give_back = allow_no_more_files(site.pid_of("vault"))
    finally:
        old.process.send_signal(signal.SIGCONT)
    failed = wait_until(lambda: old.lines("copy_failed"), "the pass to fail", 60, 0.2)
    note(failed[-1].strip())
    check("no_memory" in failed[-1] or "no_space" in failed[-1], f"it failed for something else: {failed[-1]}")
    give_back()
    wait_until(lambda: copy_of(site, name)["source_sequence"] >= point["sequence"], "the copy to go on", 60, 0.3)
    check(not old.lines("vault_full") and old.shown()["accepting"], "the vault takes its own disk for full")
    check(image_of_copy(site, name) == image_of(disk.device), "the copy is not the disk")


@test
def a_seventeenth_copy_is_refused_when_it_is_asked_for():
    _, site, name, old = site_of(16 * MIB, 50)
    own = site.machine()["vault_id"]
    for n in range(16):
        vault = f"33333333-0000-4000-8000-{n:012d}"
        site.sql(f"INSERT INTO vaults (id, name, endpoint) VALUES ('{vault}', 'far{n}', '192.0.2.{n}:9444');"
                 f"INSERT INTO copies (machine_id, vault_id, source_vault_id, created_by) VALUES ('{site.machine()['id']}', '{vault}', '{own}', 'test')")
    told = refused(site, "copy", "create", name, "old")
    check("16 vaults have a copy" in told and f"leeward copy remove {name} VAULT" in told, told)
    asked = f"/api/v1/machines/{site.machine()['id']}/copies?dry_run=true"  # as the console does before it offers the button
    status, _, answer = Api(site.env).raw("POST", asked, {"vault": "old"})
    problem = json.loads(answer)
    check(status == 409 and problem["code"] == "refused" and "leeward copy remove" in problem["correction"], f"{status} {answer}")
    site.cli("copy", "remove", name, "far3", "--forget")
    site.cli("copy", "create", name, "old")


def write_at(disk, offset, data):
    with open(disk.device, "r+b", buffering=0) as f:
        f.seek(offset)
        f.write(data)
        os.fsync(f.fileno())


@test
def a_vault_gets_back_from_its_copy_what_it_has_lost():
    disk, site, name, old = site_of(32 * MIB, 300)
    write_at(disk, 16 * MIB, os.urandom(MIB))
    point = site.settled_point()["sequence"]
    before = image_of(disk.device)
    check(asks_damage(site, old.data) == grpc.StatusCode.PERMISSION_DENIED, "a vault without a copy is told what is damaged")
    site.cli("copy", "create", name, "old")
    check(asks_damage(site, old.data) == 0, "damage where there is none")
    check(asks_damage(site, os.path.join(site.data, "node")) == grpc.StatusCode.PERMISSION_DENIED, "a node is told what is damaged")
    write_at(disk, 16 * MIB, os.urandom(MIB))  # neither the source nor the newest content has it any more
    site.settled_point()
    log = Segment(sorted(glob.glob(os.path.join(site.data, "vault", "machines", site.machine()["id"], "main", "*.seg")))[0])
    lost = [r for r in log.records if 16 * MIB <= r[2] < 17 * MIB and r[1] > 60000][:8]  # of the point that the copy began with
    check(len(lost) == 8, f"{len(lost)} records")
    old.process.send_signal(signal.SIGSTOP)
    try:
        for record in lost:
            log.flip(record[0] + 64 + 20)
        own = site.machine()["vault_name"]
        check("places are damaged" in refused(site, "vault", "verify", own), "the damage was not found")
        listed = wait_until(lambda: (i := site.cli("machine", "integrity", name))["damages"] and i, "the damage to be listed", 30, 0.3)
        check(listed["damage_count"] - listed["healed_count"] == len(lost) and listed["damaged_points"] > 0, f"{listed}")
    finally:
        old.process.send_signal(signal.SIGCONT)
    wait_until(lambda: site.cli("machine", "integrity", name)["healed_count"] == len(lost), "the vault to be healed", 90, 0.5)
    check(site.cli("machine", "integrity", name)["damaged_points"] == 0, "points are hit still")
    check(image_of(site.open(point).copy()) == before, "the point is not what it was")
    told = wait_until(lambda: [e for e in site.items("event", "list") if e["code"] == "damage_healed" and "copy" in e["text"]], "the event", 60, 0.5)
    check(f"{len(lost)} damaged places" in told[0]["text"], f"{told}")
    check(old.lines("damage_offered"), "the copy's vault does not say what it gave")
    check(site.cli("vault", "verify", own)["result"]["damage_count"] == 0, "it is damaged still")
    same_after_all(site, disk)


@test
def a_copy_goes_on_after_whatever_is_killed():
    disk, site, name, old = site_of(120 * MIB, 0)
    with open(disk.device, "r+b", buffering=0) as f:
        for _ in range(120):
            f.write(os.urandom(MIB))
        os.fsync(f.fileno())
    site.settled_point()
    site.cli("copy", "create", name, "old", "--no-wait")
    # In the middle: no point is shown before all of it is there, and what came does not come again.
    for mib, kill in ((17, old.kill), (40, lambda: site.kill("vault")), (70, lambda: site.kill("hub"))):
        wait_until(lambda: log_bytes(site, old) > mib * MIB, f"{mib} MiB of the copy", 60, 0.005)
        kill()
        if kill == old.kill:
            check(not old.lines("point_copied"), "the copy was done before it was killed")
            uncounted = log_bytes(site, old)  # at most: what came in the last seconds before it was killed
            old.restart()
    ended = wait_until(lambda: next((j for j in site.items("job", "list") if j["kind"] == "copy" and j["status"] in ("succeeded", "failed")), None),
                       "the job to end", 90, 0.3)
    check(ended["status"] == "succeeded", f"{ended}")
    whole = copy_of(site, name)
    note("log", log_bytes(site, old), whole)
    check(whole["point_count"] >= 1, f"{whole}")
    check(min(whole["taken_bytes"], whole["traffic_bytes"]) > 119 * MIB - uncounted, f"what failed passes took is not counted: {uncounted} {whole}")
    check(log_bytes(site, old) < 1.25 * 120 * MIB, f"{log_bytes(site, old)} bytes were written for 120 MiB")
    check(image_of_copy(site, name) == image_of(disk.device), "the copy is not the disk")
    # And in the middle of following.
    for round in range(2):
        disk.fill_random(300, seed=round)
        os.sync()
        count = len(old.lines("point_copied"))
        time.sleep(0.3 * round)
        old.kill()
        old.restart()
        wait_until(lambda: len(old.lines("point_copied")) > count, "a point after the restart", 60, 0.2)
    last = site.settled_point()
    wait_until(lambda: copy_of(site, name)["source_sequence"] >= last["sequence"], "the copy to follow", 60, 0.3)
    check(image_of_copy(site, name) == image_of(disk.device), "the copy does not follow")
    same_after_all(site, disk)


def image_of_uri(uri):
    copy = fresh("replica.img")
    run("nbdcopy", uri, copy)
    return image_of(copy)


@test
def a_replica_is_protected_to_a_vault_at_the_old_site():
    disk, site, name, old = site_of(64 * MIB, 1500)
    site.cli("copy", "create", name, "old")  # it has an older history of the machine
    before = wait_until(lambda: (c := copy_of(site, name))["point_count"] >= 1 and c, "the copy to have a point", 30)
    failed = site.cli("failover", "unplanned", name)
    uri = next(b for b in site.items("branch", "list") if b["id"] == failed["branch_id"])["uri"]
    check("not possible" in refused(site, "failover", "reprotect", failed["id"], "--vault", "old"), "reprotected before the commit")
    site.cli("failover", "commit", name)
    own = next(v["name"] for v in site.items("vault", "list") if v["name"] != "old")
    check("replicated there" in refused(site, "failover", "reprotect", name, "--vault", own), "a copy beside itself")
    rng = random.Random(5)
    words = [word for _ in range(300) for word in ("-c", f"write -P {rng.randrange(1, 255)} {rng.randrange(16384) * 4096} 4k")]
    run("qemu-io", "-f", "raw", *words, "-c", "write -P 9 40M 1M", "-c", "write -z 20M 2M", "-c", "flush", uri)
    site.cli("failover", "reprotect", name, "--vault", "old")
    check(site.machine()["state"] == "reverse_protected", f"{site.machine()}")
    after = copy_of(site, name)
    changed, travelled = (after[k] - before[k] for k in ("taken_bytes", "traffic_bytes"))
    note("changed", changed, "travelled", travelled)
    check(0 < changed <= 300 * 4096 + 3 * MIB and travelled <= 1.1 * changed + MIB, f"{before} {after}")
    check(image_of_copy(site, name) == image_of_uri(uri), "the copy is not what the replica holds")
    run("qemu-io", "-f", "raw", "-c", "write -P 7 50M 1M", "-c", "flush", uri)
    wait_until(lambda: image_of_copy(site, name) == image_of_uri(uri), "the copy to follow the replica", 60, 0.5)
    exported = fresh("exported.img")
    site.cli("export", name, "0", exported, "--vault", "old")
    check(image_of(exported) == image_of_uri(uri), "what was exported from the copy is not what the replica holds")


def lost_site(blocks):
    """A disk that is replicated to a vault of its own, of which the vault of the site has a copy."""
    disk = Disk(48 * MIB)
    disk.fill_random(blocks)
    site = Site()
    own = site.items("vault", "list")[0]["name"]
    lost = Vault(site, "lost")
    site.cli("machine", "protect", site.machine()["id"], "--disk", site.disk_key(disk), "--vault", "lost")
    site.settled_point()
    name = site.machine()["name"]
    check(site.machine()["vault_name"] == "lost", f"{site.machine()}")
    site.cli("copy", "create", name, own)
    return disk, site, name, own, lost


def uses_the_copy(site, name, own, lost):
    check("is connected" in refused(site, "copy", "use", name, own, "--confirm", name), "a vault that is there was given up")
    points = site.items("copy", "points", name, own)
    lost.kill()
    wait_until(lambda: not lost.shown()["online"], "the hub to miss the vault", 60, 0.2)
    check("Type it" in refused(site, "copy", "use", name, own, "--confirm", "another"), "not confirmed")
    generation = site.machine()["generation"]
    site.cli("copy", "use", name, own, "--confirm", name)
    check(site.machine()["generation"] == generation + 1, "what the lost vault has is not of an older generation")
    check(site.items("copy", "list", name)[0]["state"] == "ending", "what the lost vault has is forgotten")
    check({p["sequence"] for p in points} <= {p["sequence"] for p in site.points()}, f"{points} {site.points()}")


@test
def a_source_goes_on_to_the_vault_with_the_copy_when_its_own_is_lost():
    disk, site, name, own, lost = lost_site(1000)
    before = image_of(disk.device)
    first = site.items("copy", "points", name, own)[-1]
    disk.fill_random(100, seed=3)
    uses_the_copy(site, name, own, lost)
    wait_until(lambda: site.machine()["agent_state"] == "protected" and site.machine()["vault_name"] == own, "the source to go on", 90, 0.3)
    same_after_all(site, disk)
    opened = site.open(first["sequence"])
    check(image_of(opened.copy()) == before, "a point from before is not what it was")
    opened.close()
    # What is lost comes back, and is of no use any more.
    lost.restart()
    check(site.machine()["vault_name"] == own and len(site.points()) > 1, f"{site.machine()}")
    check("is connected" in refused(site, "copy", "remove", name, "lost", "--forget"), "forgotten what could be erased")
    site.cli("copy", "remove", name, "lost")
    check(site.items("copy", "list", name) == [], "what the lost vault had is listed still")
    same_after_all(site, disk)


@test
def a_replica_that_burns_runs_again_at_the_old_site_and_comes_back():
    disk, site, name, own, lost = lost_site(800)
    site.cli("failover", "unplanned", name)
    site.cli("failover", "commit", name)

    def uri():
        return next(b for b in site.items("branch", "list") if b["state"] == "open")["uri"]
    rng = random.Random(6)
    words = [word for _ in range(200) for word in ("-c", f"write -P {rng.randrange(1, 255)} {rng.randrange(12288) * 4096} 4k")]
    run("qemu-io", "-f", "raw", *words, "-c", "flush", uri())
    site.cli("failover", "reprotect", name, "--vault", own)
    holds = image_of_uri(uri())
    refusal = refused(site, "failover", "change-point", name, "latest")
    check("replica is the machine" in refusal or "no failover" in refusal, f"the point of a replica that runs was changed: {refusal}")
    uses_the_copy(site, name, own, lost)
    check(site.machine()["state"] == "committed" and site.items("branch", "list") == [], f"{site.machine()} {site.items('branch', 'list')}")
    site.cli("failover", "change-point", name, "latest")
    check(image_of_uri(uri()) == holds, "the replica at the old site is not what was protected")
    site.cli("failover", "commit", name)
    run("qemu-io", "-f", "raw", "-c", "write -P 0x44 8M 2M", "-c", "flush", uri())
    site.cli("failover", "reprotect", name)
    replica = image_of_uri(uri())
    site.cli("failover", "failback", name, "--confirm", name)
    check(site.machine()["state"] == "protected" and image_of(disk.device) == replica, "the original is not what the replica was")
    same_after_all(site, disk)
    site.cli("copy", "remove", name, "lost", "--forget")
    check(site.items("copy", "list", name) == [], "what the lost vault had is listed still")


if __name__ == "__main__":
    main()
