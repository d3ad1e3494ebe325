#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bucket of a vault: what was protected is uploaded, the vault's folder is destroyed, and a vault rebuilt from the bucket alone
gives the same points, byte by byte; to and from s3rver, and to and from Azurite with all kinds of faults in between."""
import glob
import os
import random
import shutil
import struct
import subprocess

from harness import BIN, MIB, Disk, Site, check, fresh, image_of, main, note, run, temp_dir, test, wait_until
from object_peers import ACCOUNT_KEY, FaultProxy, azure, bring_up, endpoint_of, file_of, s3

VAULT = os.path.join(BIN, "leeward-vault")
MARK_SEQUENCE, MARK_POINT = 40, 64  # offsets in a mark of the bucket (FORMAT.md)


def write(disk, seed, count, span):
    """4 KiB blocks of random bytes at random places."""
    rng = random.Random(seed)
    fd = os.open(disk.device, os.O_WRONLY)
    for _ in range(count):
        os.pwrite(fd, rng.randbytes(4096), rng.randrange(span // 4096) * 4096)
    os.fsync(fd)
    os.close(fd)


def fill(disk, size):
    rng = random.Random(1)
    with open(disk.device, "wb") as f:
        for _ in range(size // MIB):
            f.write(rng.randbytes(MIB))
        f.flush()
        os.fsync(f.fileno())


# ---- the bucket ----

class Bucket:
    """A vault's prefix in a service, and how the vault is told of it."""

    def __init__(self, name, service="azurite", endpoint=None):
        self.store = azure("/" + name) if service == "azurite" else s3("/" + name)  # the tests look past the proxy
        secret = file_of((ACCOUNT_KEY if service == "azurite" else "S3RVER").encode() + b"\n")
        os.chmod(secret, 0o600)
        self.access = ["--bucket-endpoint", endpoint or endpoint_of(service), "--bucket-secret-file", secret]
        self.access += ["--bucket-key-id", "S3RVER"] if service == "s3rver" else []

    def options(self, every="500ms"):
        return ["--bucket", self.store.url, "--bucket-every", every, *self.access]

    def names(self):
        return [line.split()[1] for line in self.store("list").splitlines()]

    def mark(self):
        """(sequence, point) of the newest mark."""
        marks = [n for n in self.names() if "/marks/" in n]
        check(marks, "there is no mark in the bucket")
        path = fresh("mark")
        with open(path, "wb") as f:
            f.write(subprocess.run([self.store_tool(), self.store.url, "get", marks[-1]], env=self.store.env, check=True,
                                   stdout=subprocess.PIPE).stdout)
        with open(path, "rb") as f:
            mark = f.read()
        check(mark[:8] == b"LWBKT\0\0\2", "a mark with another magic")
        return struct.unpack_from("<Q", mark, MARK_SEQUENCE)[0], struct.unpack_from("<Q", mark, MARK_POINT)[0]

    @staticmethod
    def store_tool():
        return os.path.join(BIN, "leeward-object")

    def wait_for(self, point):
        return wait_until(lambda: self.mark()[1] >= int(point), f"point {point} in the bucket", 60, 0.3)

    def rebuild(self, data, ok=True):
        """What it says; None when it failed and may (ok None)."""
        result = subprocess.run([VAULT, "rebuild", "--from", self.store.url, "--data", data, *self.access],
                                capture_output=True, text=True, timeout=120)
        note(result.stdout.strip()[-200:], result.stderr.strip()[-400:])
        if ok is None and result.returncode == 1:
            return None
        check((result.returncode == 0) == (ok is not False), f"rebuild ended with {result.returncode}: {result.stderr[-500:]}")
        return result.stdout + result.stderr


def image_of_point(site, sequence):
    export = site.open(sequence)
    image = image_of(export.copy())
    export.close()
    return image


def destroy_data(site):
    """What is lost with the vault's disk. Its identity and vault.key are what its operator keeps a copy of."""
    vault = os.path.join(site.data, "vault")
    kept = {os.path.join(vault, n) for n in ("identity", "vault.key")}
    for path in glob.glob(os.path.join(vault, "*")):
        if path not in kept:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    return vault


# ---- tests ----

@test
def vault_rebuilt_from_its_bucket_alone_gives_the_same_points():
    bucket = Bucket("rebuilt", "s3rver")
    disk = Disk(96 * MIB)
    fill(disk, 68 * MIB)  # more than a segment holds, so that one is sealed
    site = Site(daemon_options={"vault": bucket.options()})
    site.protect(disk)
    wanted = {site.settled_point()["sequence"]: image_of(disk.device)}
    for round in range(3):
        write(disk, 2 + round, 300, 90 * MIB)
        wanted[site.settled_point()["sequence"]] = image_of(disk.device)
    check(len(set(wanted.values())) == 4, "the disk did not change between the points")
    for sequence, image in wanted.items():
        check(image_of_point(site, sequence) == image, f"point {sequence} of the original vault is not what the disk held")
    bucket.wait_for(max(map(int, wanted)))
    names = bucket.names()
    check(any("/main/" in n for n in names) and any("/runs/" in n for n in names), f"{names}")
    site.stop()
    sequence, point = bucket.mark()
    note("bucket:", len(names), "objects, mark", sequence, "point", point)
    vault = destroy_data(site)
    said = bucket.rebuild(vault)
    check("1 machines rebuilt" in said, said)
    check("0 machines rebuilt" in bucket.rebuild(vault), "a machine that is there was rebuilt again")
    site.start()
    for sequence, image in wanted.items():
        check(image_of_point(site, sequence) == image, f"point {sequence} of the rebuilt vault is another one")
    write(disk, 9, 300, 90 * MIB)
    newest = site.settled_point()["sequence"]
    check(image_of_point(site, newest) == image_of(disk.device), "replication does not go on into the rebuilt vault")
    bucket.wait_for(newest)


# ---- what lies beside the log ----

def machine_folder(site):
    return glob.glob(os.path.join(site.data, "vault", "machines", "*"))[0]  # the one; a hub need not run


def content_of(site, name):
    """Of a file of the machine's; None when there is none."""
    try:
        with open(os.path.join(machine_folder(site), name), "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def lock_file(site):
    return content_of(site, "locks")


def flip_a_header(site):
    """One bit in the hash that a record of a sealed segment states: what is left tells what it was."""
    folder = os.path.join(machine_folder(site), "main")
    check(len(os.listdir(folder)) > 1, "no segment is sealed")
    with open(os.path.join(folder, sorted(os.listdir(folder))[0]), "r+b") as f:
        at = 4096
        while True:
            f.seek(at)
            header = f.read(64)
            check(header[:4] == b"LWR1", f"no data record before {at}")
            if header[4] == 1:
                break
            at += 64 + struct.unpack_from("<I", header, 12)[0]
        f.seek(at + 33)
        f.write(bytes([header[33] ^ 4]))
        os.fsync(f.fileno())
    return at


def damages(site):
    return site.cli("machine", "integrity", site.machine()["id"])["damages"]


def healed_places(site):
    """Offsets of the healed items of the file quarantine."""
    items = content_of(site, "quarantine")[32:-16]
    return [struct.unpack_from("<Q", items, at + 16)[0] for at in range(0, len(items), 192) if items[at + 1] & 1]


def branch(site, name):
    return next(b for b in site.items("branch", "list") if b["name"] == name)


def write_branch(made, byte):
    run("qemu-io", "-f", "raw", "-c", f"write -P {byte} 1M 64k", "-c", f"write -P {byte} 40M 4k", "-c", "flush", made["uri"])


def check_branch(site, name, byte):
    wait_until(lambda: branch(site, name)["state"] == "kept", f"the hub to know of the branch {name}", 90, 0.5)
    uri = site.cli("branch", "open", name)["uri"]
    said = run("qemu-io", "-f", "raw", "-c", f"read -P {byte} 1M 64k", "-c", f"read -P {byte} 40M 4k", uri, ok=None)
    check("verification failed" not in said and said.count("bytes at offset") == 2, f"the branch {name} is another one: {said}")
    return uri


def rebuilt_with_lock_damage_and_branches(service):
    bucket = Bucket("beside", service)
    disk = Disk(96 * MIB)
    fill(disk, 68 * MIB)
    site = Site(daemon_options={"vault": [*bucket.options(), "--scrub-rate", "1G", "--scrub-every", "2s"]})
    policy = next(p["id"] for p in site.cli("policy", "list")["items"] if p["is_default"])
    site.cli("policy", "set", policy, "--lock", "2h")
    site.protect(disk)
    point = site.settled_point()["sequence"]
    wait_until(lambda: lock_file(site), "the vault to lock its points", 60)
    for name, byte in (("kept", 7), ("left-open", 9)):
        write_branch(site.cli("branch", "create", f"{site.machine()['name']}@{point}", "--name", name), byte)
    site.cli("branch", "close", "kept")
    place = flip_a_header(site)
    healed = wait_until(lambda: next((d for d in damages(site) if d["state"] == "healed"), None), "the healing", 60, 0.5)
    check(healed["offset"] == place, f"something else was healed: {healed}")
    write(disk, 77, 50, 90 * MIB)
    bucket.wait_for(site.settled_point()["sequence"])
    parts = {n.split("/")[2] for n in bucket.names()}
    check({"locks", "quarantine", "mend", "branch", "branches"} <= parts, f"the bucket has {parts}")
    locked = lock_file(site)
    site.stop()
    mended = "mend/" + os.listdir(os.path.join(machine_folder(site), "mend"))[0]
    record = content_of(site, mended)
    check("1 machines rebuilt" in bucket.rebuild(destroy_data(site)), "the machine was not rebuilt")
    check(lock_file(site) == locked, "the rebuilt vault has another retention lock")
    check(record and content_of(site, mended) == record, "the rebuilt vault has another mended record")
    check(healed_places(site) == [place], f"the rebuilt vault's quarantine has {healed_places(site)}")
    site.start()
    uris = [check_branch(site, name, byte) for name, byte in (("kept", 7), ("left-open", 9))]
    check(len(set(uris)) == 2, f"{uris}")
    site.cli("policy", "set", policy, "--lock", "0")
    write(disk, 78, 50, 90 * MIB)
    newest = site.settled_point()["sequence"]
    check(image_of_point(site, newest) == image_of(disk.device), "replication does not go on into the rebuilt vault")
    check(lock_file(site)[:48] == locked[:48], "what was locked before the loss is not locked any more")
    for name in ("kept", "left-open"):
        site.cli("branch", "discard", name)
    bucket.wait_for(newest)
    wait_until(lambda: not any("/branch" in n for n in bucket.names()), "the discarded branches to go from the bucket", 60, 0.5)


@test
def lock_damage_and_branches_come_back_from_s3():
    rebuilt_with_lock_damage_and_branches("s3rver")


@test
def lock_damage_and_branches_come_back_from_azure():
    rebuilt_with_lock_damage_and_branches("azurite")


def records_to_damage(path):
    """Three records of the segment, each 64 KiB of the disk: (place, start)."""
    with open(path, "rb") as f:
        data = f.read()
    found, at = [], 4096
    while data[at:at + 4] == b"LWR1" and len(found) < 3:
        kind, stored = data[at + 4], struct.unpack_from("<I", data, at + 12)[0]
        start, length = struct.unpack_from("<QQ", data, at + 16)
        if kind == 1 and length == 65536 and start >= (len(found) + 1) * 12 * MIB:
            found.append((at, start))
        at += 64 + stored
    check(len(found) == 3, "the first segment has no such records")
    return found


@test
def damage_is_healed_from_the_bucket():
    """What the source has overwritten since, and so cannot send again, and a segment that is gone: the second copy has it. While the service is
    away nothing is lost by it, and the points that are hit are named."""
    proxy = FaultProxy(endpoint_of("azurite"))
    bucket = Bucket("healed", endpoint=proxy.endpoint)
    disk = Disk(96 * MIB)
    fill(disk, 96 * MIB)
    site = Site(daemon_options={"vault": bucket.options()})
    site.protect(disk)
    first = site.settled_point()["sequence"]
    old = image_of(disk.device)
    main_folder = os.path.join(machine_folder(site), "main")
    segment = os.path.join(main_folder, f"{1:016x}.seg")
    records = records_to_damage(segment)
    with open(disk.device, "r+b") as f:  # the source has nothing of the old content any more
        for _, start in records:
            f.seek(start)
            f.write(os.urandom(65536))
        f.flush()
        os.fsync(f.fileno())
    newest = site.settled_point()["sequence"]
    bucket.wait_for(newest)
    proxy.fault = lambda *_: 503
    with open(segment, "r+b") as f:
        f.seek(records[0][0] + 64 + 500)
        f.write(os.urandom(64))
        f.seek(records[1][0])
        f.write(bytes(100))  # header and all
        f.seek(records[2][0] + 64 + 65000)
        f.write(os.urandom(64))
        f.flush()
        os.fsync(f.fileno())
    verdict = site.cli_result("vault", "verify", "-o", "json", timeout=180)
    check(verdict.returncode == 1, f"the damage is not found: {verdict.stdout[-300:]}")
    answer = lambda: site.cli("machine", "integrity", site.machine()["id"])
    named = wait_until(lambda: (a := answer())["damage_count"] + a["healed_count"] >= 3 and a, "the damage to be named", 120, 0.5)
    check(named["healed_count"] == 0, f"healed without the bucket: {named}")
    proxy.fault = lambda *_: None
    verdict = site.cli_result("vault", "verify", "-o", "json", timeout=180)
    after = wait_until(lambda: (a := answer())["damage_count"] == 0 and a, "the bucket to heal it", 120, 0.5)
    check(after["healed_count"] == 3, f"{after}")
    check(image_of_point(site, first) == old, "the old point is not what the disk held")

    os.unlink(segment)
    site.cli_result("vault", "verify", timeout=180)
    wait_until(lambda: os.path.exists(segment), "the segment to come back from the bucket", 120, 0.5)
    wait_until(lambda: not answer()["damages"], "what was healed in the segment before to go with it", 60, 0.5)
    check(site.cli_result("vault", "verify", timeout=180).returncode == 0, "the vault is not whole again")
    check(answer()["damage_count"] == 0, f"{answer()}")
    check(image_of_point(site, first) == old, "the old point is not what the disk held, once its segment came back")
    check(image_of_point(site, newest) is not None and not os.path.exists(os.path.join(machine_folder(site), "second")),
          "what was fetched was left behind")
    bucket.wait_for(site.settled_point()["sequence"])


@test
def erased_machine_goes_from_the_bucket_and_may_come_again():
    proxy = FaultProxy(endpoint_of("azurite"))
    bucket = Bucket("erased", endpoint=proxy.endpoint)
    disk = Disk(32 * MIB)
    fill(disk, 8 * MIB)
    site = Site(daemon_options={"vault": bucket.options()})
    site.protect(disk)
    bucket.wait_for(site.settled_point()["sequence"])
    machine = site.machine()["id"]
    site.cli("machine", "unprotect", machine)
    proxy.fault = lambda *_: 503  # the service is away while the machine is erased, and the vault is killed
    site.cli("machine", "erase", machine)
    kept = os.path.join(site.data, "vault", "machines", f".erased-{machine}")
    wait_until(lambda: os.path.isdir(kept) and not os.listdir(kept), "the files of the machine to go", 60)
    check(bucket.names(), "the bucket is empty already")
    site.kill("vault")
    proxy.fault = lambda *_: None
    wait_until(lambda: not bucket.names(), "the machine to go from the bucket", 120, 0.5)
    wait_until(lambda: not os.path.exists(kept), "the vault to forget it", 60)
    site.protect(disk)
    newest = site.settled_point()["sequence"]
    bucket.wait_for(newest)


FAULTS = ("cut", "lost", "torn", "liar", "slow", 500, 503, 412, 403, 429)


def random_faults(proxy, seed, requests):
    """Every third of the next requests fails, in all ways there are."""
    rng, first = random.Random(seed), len(proxy.seen)
    proxy.fault = lambda number, *_: rng.choice(FAULTS) if number <= first + requests and rng.random() < 0.33 else None


def event(site, code):
    return next((e for e in site.items("event", "list") if e["code"] == code), None)


def lag(site):
    """What the hub says of the bucket, once it knows of a point there."""
    vault = site.cli("vault", "list")["items"][0]["id"]
    return next((m for m in site.cli("vault", "stat", vault)["machines"] if m.get("bucket_point_at")), None)


@test
def faults_on_the_way_lose_nothing_overwrite_nothing_and_are_told():
    proxy = FaultProxy(endpoint_of("azurite"))
    bucket = Bucket("faults", endpoint=proxy.endpoint)
    disk = Disk(32 * MIB)
    fill(disk, 20 * MIB)
    proxy.fault = lambda *_: 403
    site = Site(daemon_options={"vault": bucket.options()})
    site.protect(disk)  # replication does not notice
    told = wait_until(lambda: event(site, "bucket_behind"), "the event of a bucket that is behind", 60, 0.5)
    check("right to" in told["remedy"] and "refused" in told["text"], f"{told}")
    random_faults(proxy, 5, 60)
    wanted = {}
    for round in range(3):
        write(disk, 20 + round, 200, 30 * MIB)
        wanted[site.settled_point()["sequence"]] = image_of(disk.device)
        if round == 1:
            site.kill("vault")
    bucket.wait_for(max(map(int, wanted)))
    wait_until(lambda: event(site, "bucket_caught_up"), "the event of a bucket that caught up", 60, 0.5)
    site.cli("vault", "gc", site.cli("vault", "list")["items"][0]["id"])  # so that its space is looked at now
    told = wait_until(lambda: lag(site), "the hub to know what the bucket has", 90, 0.5)
    check(told["bucket_behind_bytes"] < 32 * MIB and told["bucket_point_at"], f"{told}")
    blobs = [path for path in proxy.written if "comp=" not in path and "probe" not in path]
    check(len(blobs) == len(set(blobs)), "an object was written twice")
    site.stop()
    vault = destroy_data(site)
    random_faults(proxy, 6, 30)
    tries = next(n for n in range(1, 30) if bucket.rebuild(vault, ok=None))
    note("rebuilt at try", tries, "behind", len(proxy.seen), "requests")
    site.start()
    for sequence, image in wanted.items():
        check(image_of_point(site, sequence) == image, f"point {sequence} of the rebuilt vault is another one")


if __name__ == "__main__":
    temp_dir()
    bring_up()
    main()
