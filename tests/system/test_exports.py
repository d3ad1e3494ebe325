#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`leeward export`: files of each format and block devices hold what the point held, whatever is killed on the way; what is in use or
protected is never written to."""
import glob
import json
import os

from harness import MIB, CliError, Disk, Site, check, fresh, image_of, main, run, test, wait_until

SIZE = 96 * MIB


def protected_site():
    disk = Disk(SIZE)
    disk.fill_random(250)
    site = Site()
    site.protect(disk)
    return site, disk, site.settled_point(), number_of(site, disk)


def number_of(site, disk):
    return next(d["number"] for d in site.items("disk", "list", site.machine()["id"]) if d["device"] == disk.device)


def target_of(site, point):
    return f"{site.machine()['id']}@{point['sequence']}"


def refused(site, *command):
    try:
        site.cli("export", *command)
    except CliError as refusal:
        return refusal.text
    check(False, f"export {command} was not refused")


def left_over(site, *paths):
    return [p for p in (*paths, *glob.glob(os.path.join(site.data, "vault/exports/*.copy"))) if os.path.exists(p)]


@test
def exports_hold_what_the_point_held_and_what_is_in_use_is_refused():
    site, disk, point, number = protected_site()
    formats_and_a_device(site, disk, point, number)
    refusals(site, disk, point, number)
    cancelling(site, point, number)


def formats_and_a_device(site, disk, point, number):
    target, image = target_of(site, point), image_of(disk.device)
    for form in ("raw", "qcow2", "vhd", "vmdk"):
        path = fresh(f"export.{form}")
        job = site.cli("export", target, number, path, "--format", form)
        check(job["result"]["verified"] and job["progress_percent"] == 100, json.dumps(job))
        said = run("qemu-img", "compare", "-f", "vpc" if form == "vhd" else form, "-F", "raw", path, disk.device)
        check("identical" in said, f"{form}: {said}")
        info = json.loads(run("qemu-img", "info", "--output=json", "-f", "vpc" if form == "vhd" else form, path))
        check(info["virtual-size"] == SIZE, f"{form} has {info['virtual-size']} bytes")
        check(os.stat(path).st_blocks * 512 < SIZE / 2, f"{form} is not sparse")
        check(left_over(site, path + ".part") == [], "something is left over")
        check("is there already" in refused(site, target, number, path, "--format", form), "a file was overwritten")
    device = Disk(SIZE + 4 * MIB, name="target")
    device.fill_random(1000, seed=3)  # what must be zero is not, before
    site.cli("export", target, number, device.device)
    check(image_of(copy_of(device)) == image, "the device holds something else than the point")
    check(image_of(disk.device) == image, "the source changed")


def copy_of(device):
    """As much of it as the disk is long."""
    path = fresh("device.img")
    run("dd", f"if={device.device}", f"of={path}", "bs=1M", f"count={SIZE // MIB}")
    return path


def refusals(site, disk, point, number):
    target = target_of(site, point)
    mounted = Disk(SIZE, name="mounted")
    mounted.make_fs("ext4")
    mounted.mount(options="ro")
    before = image_of(mounted.device)
    said = refused(site, target, number, mounted.device)
    check("in use" in said and "unmount" in said, said)
    check(image_of(mounted.device) == before, "a mounted device was written to")
    said = refused(site, target, number, disk.device)
    check("protected" in said, said)
    small = Disk(SIZE - MIB, name="small")
    check("only" in refused(site, target, number, small.device), "a device that is too small was taken")
    check(left_over(site) == [], "a refusal left something over")


def cancelling(site, point, number):
    path = fresh("cancelled.qcow2")
    job = site.cli("export", target_of(site, point), number, path, "--format", "qcow2", "--no-wait")["id"]
    try:
        site.cli("job", "cancel", job)
    except CliError:
        pass  # it was quicker
    status = wait_until(lambda: site.cli("job", "show", job)["status"] in ("cancelled", "succeeded") and
                        site.cli("job", "show", job)["status"], "the job to end", 60)
    wait_until(lambda: left_over(site, path + ".part") == [], "nothing to be left over", 60)
    check(status == "succeeded" or not os.path.exists(path), "a cancelled export left its file")


@test
def an_export_goes_on_after_vault_and_hub_were_killed():
    site, disk, point, number = protected_site()
    target, image = target_of(site, point), image_of(disk.device)
    for form in ("raw", "qcow2"):
        path = fresh(f"killed.{form}")
        job = site.cli("export", target, number, path, "--format", form, "--no-wait")["id"]
        wait_until(lambda: left_over(site, path + ".part", path), "the export to begin", 30, 0.005)
        site.kill("vault")
        site.kill("hub")
        site.wait_ready()
        ended = site.cli("job", "wait", job, timeout=120)
        check(ended["status"] == "succeeded" and ended["result"]["verified"], json.dumps(ended))
        said = run("qemu-img", "compare", "-f", form, "-F", "raw", path, disk.device)
        check("identical" in said, f"{form}: {said}")
        check(left_over(site, path + ".part") == [], "something is left over")
    check(image_of(disk.device) == image, "the source changed")


if __name__ == "__main__":
    main()
