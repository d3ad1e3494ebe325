#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The vault's key in a running site: it is rotated without rewriting data or ending replication, and a vault that is given a wrong key
says which one it wants."""
import os
import re

from harness import MIB, Disk, Site, check, image_of, main, test, wait_until


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


if __name__ == "__main__":
    main()
