#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is written, as the agent sees it go by: everyday work raises no alarm, files that are encrypted in place do.

pgbench, an unpacked and packed tree and a downloaded archive come first, on the same disk; then `openssl enc` goes over the
files. The alarm must name a point from before that, and the files of this point must be whole.
"""
import os
import shutil
import subprocess

from gate import Gate
from grpc_client import read
from harness import MIB, Disk, Failure, Postgres, Site, check, fresh, main, note, run, test, wait_until
from vault_points import Vault

TEXTS = 40
SALT = "leeward"


def write_texts(folder):
    """Files as people have them: 1 MiB of lines each."""
    os.mkdir(folder)
    for number in range(TEXTS):
        line = f"{number}: the quick brown fox jumps over the lazy dog, said the invoice of {2000 + number}\n"
        with open(os.path.join(folder, f"{number}.txt"), "w") as f:
            f.write(line * (MIB // len(line)))


def disk_of_texts(size_bytes):
    """A disk with a file system, and the folder that it is mounted on."""
    disk = Disk(size_bytes)
    disk.make_fs("ext4")
    folder = disk.mount()
    write_texts(os.path.join(folder, "texts"))
    run("sync")
    return disk, folder


def encrypt_in_place(path):
    """What ransomware does: the ciphertext goes over the file's own blocks."""
    ciphertext = subprocess.run(["openssl", "enc", "-aes-256-ctr", "-pbkdf2", "-pass", f"pass:{SALT}", "-in", path],
                                check=True, capture_output=True).stdout
    with open(path, "r+b") as f:
        f.write(ciphertext)
        os.fsync(f.fileno())


def encrypt_all(folder, wait_point_after):
    """All texts, slowly enough that there are points in between."""
    for number in range(TEXTS):
        path = os.path.join(folder, "texts", f"{number}.txt")
        encrypt_in_place(path)
        if number % 8 == 0:
            wait_point_after(os.stat(path).st_mtime)


def alarms(site):
    return [e for e in site.items("event", "list") if e["code"] == "looks_encrypted"]


@test
def encryption_is_told_from_everyday_work():
    disk, folder = disk_of_texts(700 * MIB)
    database = Postgres(folder)
    database.start()
    run("sync")
    site = Site()
    site.protect(disk)
    # Everyday work, over blocks that were text a moment ago.
    database.pgbench("-i", "-s", "3", "-q").wait(120)
    load = database.pgbench("-c", "2", "-T", "4")
    write_texts(os.path.join(folder, "more"))
    run("tar", "-cf", f"{folder}/source.tar", "-C", "/usr/share", "perl", "python3", ok=None)
    run("tar", "-czf", f"{folder}/bin.tar.gz", "/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1", ok=None)
    shutil.rmtree(os.path.join(folder, "more"))
    os.unlink(f"{folder}/source.tar")
    run("sync")
    archive = fresh("download.gz")
    run("sh", "-c", f"cat /usr/bin/* 2>/dev/null | head -c 60000000 | gzip -1 > {archive}")
    shutil.copy(archive, f"{folder}/download.gz")
    run("sync")
    load.wait(60)
    site.settled_point()
    check(not alarms(site), f"everyday work raised {alarms(site)}")
    # And now the files.
    before = site.settled_point()
    encrypt_all(folder, site.wait_point_after)
    alarm = wait_until(lambda: alarms(site), "the alarm", 60, 0.3)[0]
    note(alarm["text"])
    named = int(alarm["text"].split("the last point before that is ")[1].split()[0])
    check(named >= int(before["sequence"]), f"the alarm names point {named}, {before['sequence']} was before")
    health = wait_until(lambda: "looks encrypted" in site.machine()["cause"] and site.machine(), "the health to say so", 60, 0.5)
    check(health["health"] != "healthy", "the machine is healthy")
    branch = site.open(named, write=True).attach()
    copy = branch.mount()
    for number in range(TEXTS):
        with open(os.path.join(copy, "texts", f"{number}.txt"), "rb") as f:
            content = f.read(4096)
        if not content.startswith(f"{number}: the quick".encode()):
            raise Failure(f"file {number} is not whole at the point that the alarm names")
    branch.detach()
    database.stop()
    # The profile of the minutes.
    minutes = wait_until(lambda: site.items("machine", "churn", site.machine()["id"]), "a minute of the profile", 90, 1)
    check(minutes[-1]["changed_bytes"] > MIB and 0 < minutes[-1]["entropy_bits"] <= 8, f"an odd minute: {minutes[-1]}")


@test
def an_alarm_outlives_an_agent_that_dies_without_a_hub():
    disk, folder = disk_of_texts(160 * MIB)
    gate = Gate()
    site = Site(daemon_starters={"hub": gate.starter})
    site.protect(disk)
    vault, kept = Vault(site), os.path.join(site.data, "agent", "events.pb")
    gate.shut()
    site.kill("hub")
    encrypt_all(folder, lambda moment: vault.wait_point_after(moment, "a point without the hub"))
    wait_until(lambda: os.path.exists(kept) and b"looks_encrypted" in read(kept), "the alarm to be on the machine's disk", 60, 0.3)
    agent = site.kill("agent")
    wait_until(lambda: site.pid_of("agent") != agent, "the agent to be started again", 60)
    gate.open()
    # Who looks at the machine then sees it, however long ago it was.
    wait_until(lambda: "looks encrypted" in site.machine()["cause"], "the health to say so", 120, 0.5)
    check(len(alarms(site)) == 1, f"{len(alarms(site))} alarms")
    wait_until(lambda: not os.path.exists(kept), "the hub to have said that it has it", 60, 0.3)


if __name__ == "__main__":
    main()
