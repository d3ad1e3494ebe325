#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The vault's key in a running site: it is rotated without rewriting data or ending replication, and a vault that is given a wrong key
says which one it wants."""
import os
import re
import signal
import threading

from harness import MIB, Disk, Site, check, image_of, main, run, test, wait_until


def log_text(site):
    with open(site.log, errors="replace") as f:
        return f.read()


@test
def key_is_rotated_while_replication_goes_on():
    disk = Disk(32 * MIB)
    disk.fill_random(800)
    site = Site()
    site.protect(disk)
    point = site.settled_point()
    image = image_of(disk.device)
    key_file = os.path.join(site.data, "vault", "vault.key")
    with open(key_file) as f:
        before = f.read()
    stores = os.path.join(site.data, "vault", "machines", site.machine()["id"], "main")
    sizes = {name: os.path.getsize(os.path.join(stores, name)) for name in os.listdir(stores)}
    result = site.cli("vault", "rotate-key")["result"]
    with open(key_file) as f:
        after = f.read()
    check(after != before and not os.path.exists(key_file + ".next"), "the key is not another one")
    check(result["machines"] == 1 and re.fullmatch("[0-9a-f]{8}", result["key_id"]), f"the result is {result}")
    for name, size in sizes.items():
        check(os.path.getsize(os.path.join(stores, name)) >= size, f"{name} was rewritten")
    disk.fill_random(100, seed=3)
    newest = site.settled_point()

    site.stop()
    site.start()
    for sequence, right in ((point["sequence"], image), (newest["sequence"], image_of(disk.device))):
        export = site.open(sequence)
        check(image_of(export.copy()) == right, f"point {sequence} is another after the rotation")
        export.close()

    site.stop()
    with open(key_file, "w") as f:
        f.write(before)
    os.chmod(key_file, 0o600)
    mark = len(log_text(site))
    site.start(wait=False)
    wait_until(lambda: f"put the vault.key with the id {result['key_id']} back" in log_text(site)[mark:],
               "the vault to name the key that it wants", 60)


@test
def data_key_is_changed_while_replication_goes_on():
    """Each point opens, whichever key it was written under; a lost file of older keys is named; a vault key of its own changes nothing."""
    disk = Disk(32 * MIB)
    disk.fill_random(400)
    site = Site()
    site.protect(disk)
    machine = site.machine()["id"]
    folder = os.path.join(site.data, "vault", "machines", machine)
    points = [(site.settled_point()["sequence"], image_of(disk.device))]
    branch = site.cli("branch", "create", f"{machine}@{points[0][0]}")
    for n in (2, 3):
        result = site.cli("machine", "rotate-key", machine)["result"]
        check(result == {"data_keys": n}, f"the result is {result}")
        disk.fill_random(60, seed=n)
        points.append((site.settled_point()["sequence"], image_of(disk.device)))
    check(log_text(site).count("data_key_changed") == 2, "the vault's log does not say it")

    def every_point_opens():
        for sequence, right in points:
            export = site.open(sequence)
            check(image_of(export.copy()) == right, f"point {sequence} is another one")
            export.close()

    run("qemu-io", "-f", "raw", "-c", "write -P 7 3M 192k", "-c", "flush", "-c", "read -P 7 3M 192k", branch["uri"])
    every_point_opens()
    site.cli("vault", "rotate-key")
    site.cli("vault", "verify", "--machine", machine)
    site.stop()
    site.start()
    every_point_opens()
    run("qemu-io", "-f", "raw", "-c", "read -P 7 3M 192k", branch["uri"])
    site.cli("branch", "discard", branch["id"])

    site.stop()
    os.rename(os.path.join(folder, "keys"), os.path.join(folder, "aside"))
    mark = len(log_text(site))
    site.start(wait=False)
    wait_until(lambda: "the machine has had several data keys" in log_text(site)[mark:], "the vault to name what is missing", 60)
    site.stop()
    os.rename(os.path.join(folder, "aside"), os.path.join(folder, "keys"))
    site.start()
    every_point_opens()


def protected(*policy):
    disk = Disk(16 * MIB)
    disk.fill_random(300)
    site = Site()
    if policy:
        site.cli("policy", "set", "default", *policy)
    site.protect(disk)
    site.settled_point()
    machine = site.machine()["id"]
    return site, disk, machine, os.path.join(site.data, "vault", "machines", machine)


@test
def locked_machine_is_not_erased():
    site, _, machine, folder = protected("--lock", "1h")
    check(site.cli_result("machine", "erase", machine).returncode == 4, "a protected machine is erased")
    site.cli("machine", "unprotect", machine)
    refused = site.cli_result("machine", "erase", machine)
    check(refused.returncode == 4 and "locked until" in refused.stderr, f"locked points are erased: {refused.stderr}")
    export = site.open()
    export.close()
    check(os.path.exists(os.path.join(folder, "meta")), "the folder is gone although it is locked")


@test
def erased_machine_is_gone_for_good():
    site, disk, machine, folder = protected()
    with open(os.path.join(folder, "meta"), "rb") as f:
        wrapped = f.read()[52:112]
    # A node that stands still has not ended the machine's stream yet when the key is to go: that is waited for, not refused.
    node = site.pid_of("node")
    os.kill(node, signal.SIGSTOP)
    try:
        site.cli("machine", "unprotect", machine)
        erased = []
        asking = threading.Thread(target=lambda: erased.append(site.cli_result("machine", "erase", machine)))
        asking.start()
        job = wait_until(lambda: next((j for j in site.items("job", "list") if j["kind"] == "erase" and j["status"] == "running"), None),
                         "the job to begin", 60)
        wait_until(lambda: site.cli("job", "show", job["id"])["steps"][0]["detail"].startswith("the vault works"),
                   "the vault to be asked", 60)
        check(os.path.exists(os.path.join(folder, "meta")), "erased while its stream is open")
    finally:
        os.kill(node, signal.SIGCONT)
    asking.join()
    check(erased[0].returncode == 0, f"not erased: {erased[0].stderr}")
    wait_until(lambda: not os.listdir(os.path.dirname(folder)), "the files to be removed", 30)
    check(site.points() == [], "its points are still listed")
    for path, _, names in os.walk(os.path.join(site.data, "vault")):
        for name in names:
            with open(os.path.join(path, name), "rb") as f:
                check(wrapped not in f.read(), f"{name} still has the wrapped key")
    site.protect(disk)
    export = site.open(site.settled_point()["sequence"])
    check(image_of(export.copy()) == image_of(disk.device), "a machine that is protected again is not copied anew")
    export.close()


if __name__ == "__main__":
    main()
