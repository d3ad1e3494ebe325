# SPDX-License-Identifier: Apache-2.0
"""The rescue image, in which the disks of replicas are prepared; cached by all that it is made of."""
import fcntl
import glob
import hashlib
import os

from guest import install_packages
from harness import BIN, ROOT, note, run

MAKER = os.path.join(ROOT, "packaging", "rescue", "make-rescue-image.sh")
PARTS = [MAKER, *(os.path.join(os.path.dirname(MAKER), name) for name in ("init", "udhcpc.sh")), os.path.join(BIN, "leeward-fixup"), os.path.join(BIN, "leeward-agent")]


def rescue_image():
    """Its folder, as the hub's --rescue-image wants it."""
    install_packages()
    key = hashlib.sha256()
    for part in PARTS:
        with open(part, "rb") as f:
            key.update(hashlib.sha256(f.read()).digest())
    folder = os.path.join(ROOT, "build", "vm-image", "rescue-" + key.hexdigest()[:16])
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with open(os.path.join(os.path.dirname(folder), "rescue.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(folder, "initrd")):
            note("making the rescue image")
            for outdated in glob.glob(os.path.join(os.path.dirname(folder), "rescue-*")):
                run("rm", "-rf", outdated)
            run(MAKER, folder, BIN, timeout=1200)
    return folder
