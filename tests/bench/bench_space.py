# SPDX-License-Identifier: Apache-2.0
"""Space that thinning gives back: a day of one-second points on a disk of which the same blocks are written again and again, thinned to
hourly points, against a fresh store that only ever had those (vault_history: the vault's own write path, retention, compaction)."""
import json
import os
import shutil
import subprocess
import tempfile

from figure import figure

POINTS, HOUR = 86400, 3600
DISK_GIB, EXTENTS, BLOCK, RANDOM_PERCENT, WORKING_BLOCKS = 1, 12, 4096, 50, 20000


def store(each, mode):
    """Bytes of the whole store, and what vault_history says."""
    place = "/dev/shm" if shutil.disk_usage("/dev/shm").free > 6 << 30 else None
    with tempfile.TemporaryDirectory(prefix="leeward-bench-", dir=place) as folder:
        arguments = [DISK_GIB, POINTS, EXTENTS, BLOCK, RANDOM_PERCENT, WORKING_BLOCKS, mode, each]
        said = subprocess.run([os.environ["LEEWARD_BIN"] + "/vault_history", folder, *map(str, arguments)], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
        sizes = [os.path.getsize(os.path.join(path, name)) for path, _, names in os.walk(folder) for name in names]
        return sum(sizes), json.loads(said)


def measure(options):
    thinned, said = store(HOUR, "thin")
    fresh, _ = store(HOUR, "fresh")
    figure("space.thinned_ratio", thinned / fresh, "x the bytes of a fresh store of the remaining points", "<= 1.05",
           leeward={"thinned_mib": round(thinned / (1 << 20), 1), "fresh_mib": round(fresh / (1 << 20), 1), "points": POINTS,
                    "written_s": said["seconds"],
                    "thinned_s": said["thin_seconds"]})
