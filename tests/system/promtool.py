# SPDX-License-Identifier: Apache-2.0
"""promtool, from Debian's package of Prometheus. The package is unpacked into the build folder and not installed: no server is started."""
import glob
import os
import shutil
import subprocess

from harness import BIN, check, making_shared, run

FOLDER = os.path.join(os.path.dirname(os.path.abspath(BIN)), "promtool")


def program():
    path = shutil.which("promtool") or os.path.join(FOLDER, "usr", "bin", "promtool")
    with making_shared():
        if not os.path.exists(path):
            os.makedirs(FOLDER, exist_ok=True)
            if subprocess.run(["apt-get", "-q", "download", "prometheus"], cwd=FOLDER, capture_output=True, timeout=300).returncode != 0:
                run("flock", "/run/lock/leeward-apt.lock", "apt-get", "-q", "-o", "Acquire::Retries=5", "update", timeout=300)
                run("apt-get", "-q", "-o", "Acquire::Retries=5", "download", "prometheus", cwd=FOLDER, timeout=300)
            run("dpkg-deb", "-x", glob.glob(os.path.join(FOLDER, "prometheus_*.deb"))[0], FOLDER)
    return path


def promtool(*command, stdin=None):
    """What it says; a Failure when it does not like something."""
    result = subprocess.run([program(), *command], input=stdin, capture_output=True, text=True, timeout=120)
    check(result.returncode == 0, f"promtool {' '.join(command)}: {(result.stdout + result.stderr).strip()[-1500:]}")
    return result.stdout + result.stderr
