# SPDX-License-Identifier: Apache-2.0
"""Initial replication of a 4 GiB server image, TLS and durable, with agent, node and vault on this one machine, against
`zstd -1 -T2` of the same image, and restic, borg and qemu-img. The image is in the page cache for all of them, and each ends in an fsync of its output."""
import datetime
import os
import pathlib
import shutil
import statistics
import subprocess
import time

import cpu
import harness
from backup_peers import Borg, Restic, stored_bytes
from figure import figure, timed

IMAGE = pathlib.Path(harness.ROOT) / "build/bench/server.img"


def zstd(threads, source, target):
    with open(target, "wb") as out:
        subprocess.run(["zstd", "-1", f"-T{threads}", "-q", "-c", str(source)], stdout=out, check=True)
        os.fsync(out.fileno())
    return os.path.getsize(target)


class CopyOfImage(harness.Disk):
    """A loop disk over a copy of the image, so that mounting it does not change the next round's input."""

    def __init__(self):
        self.path = harness.fresh("server.img")
        harness.run("cp", "--sparse=always", IMAGE, self.path, timeout=300)
        self.device, self._undo = harness.attach_loop(self.path)
        self.size_bytes = int(harness.run("blockdev", "--getsize64", self.device))


def leeward_once(restore=False):
    """Seconds from the request to the first durable recovery point, processor seconds of each daemon until then, the bytes in the vault
    then, and, if asked for, seconds to restore the disk from it into a file."""
    disk = CopyOfImage()
    disk.mount()
    site = harness.Site()
    key = site.disk_key(disk)
    os.sync()  # the copy of the image is at rest: its writeback is not part of what is measured

    before = cpu.of_daemons(site.process.pid)
    begin = time.time()
    # Waits inside the hub: asking every few milliseconds would cost the processors that are being measured.
    site.cli("machine", "protect", site.machine()["id"], "--disk", key, timeout=300)
    first = harness.wait_until(lambda: site.points(), "the first point", 60)[-1]
    seconds = datetime.datetime.fromisoformat(first["committed_at"].replace("Z", "+00:00")).timestamp() - begin
    spent = cpu.difference(before, cpu.of_daemons(site.process.pid))
    stored = stored_bytes(os.path.join(site.data, "vault"))
    restored = timed(restore_point, site, first["sequence"])[0] if restore else 0
    site.stop()
    disk.unmount()
    disk.detach()
    return seconds, spent, stored, restored


def restore_point(site, sequence):
    export = site.open(sequence)
    target = harness.fresh("restored.img")
    harness.run("nbdcopy", "--flush", export.uri(), target, timeout=300)
    export.close()
    os.unlink(target)


def qemu_img(*arguments):
    """An image of a disk as virtualization keeps it, compressed by the same zstd and on the disk at the end."""
    harness.run("qemu-img", "convert", *arguments, timeout=600)
    with open(arguments[-1], "rb") as written:
        os.fsync(written.fileno())


def measure_qemu_img(times):
    image = harness.fresh("image.qcow2")
    times["qemu_img_s"] = round(timed(qemu_img, "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", IMAGE, image)[0], 2)
    times["qemu_img_stored_mb"] = round(os.path.getsize(image) / 1e6, 1)
    times["qemu_img_restore_s"] = round(timed(qemu_img, "-f", "qcow2", "-O", "raw", image, harness.fresh("restored.img"))[0], 2)
    harness.note("qemu-img", times)


def measure_peers(ours_s, restored_s):
    """restic, borg and qemu-img once each: they are slower by so much that rounds would tell nothing more."""
    times = {}
    measure_qemu_img(times)
    for peer in (Restic, Borg):
        folder = harness.fresh(peer.name)
        os.makedirs(folder)
        p = peer(folder)
        times[f"{p.name}_s"] = round(p.backup(str(IMAGE)), 2)
        times[f"{p.name}_stored_mb"] = round(p.stored() / 1e6, 1)
        times[f"{p.name}_restore_s"] = round(p.restore(str(IMAGE), os.path.join(folder, "restored")), 2)
        shutil.rmtree(folder)
        harness.note(p.name, times)
    figure("initial.restic_ratio", times["restic_s"] / ours_s, "x faster than restic", ">= 2.5", times, {"wall_s": round(ours_s, 2)})
    figure("initial.restore_ratio", times["restic_restore_s"] / restored_s, "x faster to restore than restic", ">= 1", times,
           {"restore_s": round(restored_s, 2)})


def measure(options):
    if not IMAGE.exists():
        harness.run(os.path.join(os.path.dirname(os.path.abspath(__file__)), "make-server-image.sh"), IMAGE, timeout=600)
    subprocess.run(["dd", f"if={IMAGE}", "of=/dev/null", "bs=1M"], stderr=subprocess.DEVNULL, check=True)
    ours, peers, ours_cpu, peers_cpu = [], [], [], []
    stored = zstd_bytes = 0
    for round_number in range(options.rounds):
        os.sync()
        before = cpu.of_ended_children()
        seconds, zstd_bytes = timed(zstd, 2, IMAGE, harness.fresh("image.zst"))
        peers.append(seconds)
        peers_cpu.append(cpu.of_ended_children() - before)
        seconds, spent, stored, restored = leeward_once(restore=round_number == options.rounds - 1)
        ours.append(seconds)
        ours_cpu.append(spent)
        harness.note(f"round {round_number + 1}: zstd {peers[-1]:.2f} s ({peers_cpu[-1]:.2f} of processor), leeward {ours[-1]:.2f} s {spent}")
    ratio = statistics.median(a / b for a, b in zip(ours, peers))
    middle = sorted(ours_cpu, key=lambda spent: sum(spent.values()))[len(ours_cpu) // 2]
    wall = {"wall_s": round(statistics.median(ours), 2), "stored_mb": round(stored / 1e6, 1), "cpu_s": round(sum(middle.values()), 2),
            "cpu_by_daemon_s": middle, "load": round(os.getloadavg()[0], 1)}
    reference = {"zstd_t2_s": round(statistics.median(peers), 2), "zstd_mb": round(zstd_bytes / 1e6, 1),
                 "zstd_t2_cpu_s": round(statistics.median(peers_cpu), 2)}
    figure("initial.wall_ratio", ratio, "x zstd -1 -T2", "<= 1.25", reference, wall)
    figure("initial.stored_ratio", stored / zstd_bytes, "x zstd -1", "<= 1.02", reference, wall)
    measure_peers(statistics.median(ours), restored)
