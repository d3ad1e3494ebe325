#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scripts of docs/pipelines.md, as they stand there, against a disk that is really protected."""
import hashlib
import os
import re
import subprocess

from harness import BIN, MIB, ROOT, Disk, Site, check, fresh, main, run, test, wait_until

CHECK = 'grep -q "^works" "$APP/state"'


def script(name):
    """Writes the script of that name out of the document; its path."""
    with open(os.path.join(ROOT, "docs", "pipelines.md")) as f:
        blocks = re.findall(r"^```sh\n(.*?)^```$", f.read(), re.M | re.S)
    text = next(b for b in blocks if b.splitlines()[1].startswith(f"# {name}:"))
    path = fresh(name)
    with open(path, "w") as f:
        f.write(text)
    run("sh", "-n", path)
    return path


def digest(folder):
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as f:
                found[os.path.relpath(os.path.join(path, name), folder)] = hashlib.sha256(f.read()).hexdigest()
    return found


class Application:
    """A folder on a protected disk."""

    def __init__(self, disk):
        disk.make_fs("ext4")
        self.folder = os.path.join(disk.mount(), "app")
        os.makedirs(os.path.join(self.folder, "bin"))
        self.write("state", "works\n")
        with open(os.path.join(self.folder, "bin", "program"), "wb") as f:
            f.write(os.urandom(2 * MIB))

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)


def deploy(site, path, application, command):
    token = site.cli_result("token", "create", "deploy", "--role", "operator", "--scopes",
                            "machines:read,points:read,points:write,exports:read,exports:write,jobs:read", "--expires", "1h")
    check(token.returncode == 0, token.stderr)
    environment = dict(site.env, PATH=BIN + ":" + os.environ["PATH"], MACHINE=site.machine()["name"], APP=application.folder, CHECK=CHECK,
                       LEEWARD_TOKEN=token.stdout.strip())
    result = subprocess.run(["sh", path, "sh", "-c", command], env=environment, capture_output=True, text=True, timeout=300)
    site.cli_result("token", "revoke", "deploy")
    return result


def runs(name):
    site = Site()
    disk = Disk(64 * MIB)
    application = Application(disk)
    site.protect(disk)
    path = script(name)
    good = deploy(site, path, application, 'echo "works, version 2" >"$APP/state"')
    check(good.returncode == 0 and "was read back" in good.stdout, f"{good.returncode}: {good.stdout} {good.stderr}")
    check(open(os.path.join(application.folder, "state")).read() == "works, version 2\n", "the deployment did not happen")
    before = digest(application.folder)
    bad = deploy(site, path, application, 'rm -r "$APP/bin" && echo broken >"$APP/state" && touch "$APP/rubbish"')
    check(bad.returncode == 1 and "rolled back" in bad.stderr, f"{bad.returncode}: {bad.stdout} {bad.stderr}")
    check(digest(application.folder) == before, "the folder is not what it was before the deployment")
    tags = [p["tag"] for p in site.points() if p["tag"]]
    check(len(tags) == 2 and all(t.startswith("before-") for t in tags), f"tagged points: {tags}")
    wait_until(lambda: not site.items("point", "opened"), "the points to be closed", 30)
    check(site.machine()["state"] == "protected", "the machine is not protected any more")


@test
def deployment_with_the_command_goes_and_comes_back():
    runs("deploy.sh")


@test
def deployment_with_curl_goes_and_comes_back():
    runs("deploy-curl.sh")


@test
def pipeline_stops_before_the_deployment_when_no_point_can_be_made():
    site = Site()
    disk = Disk(24 * MIB)
    application = Application(disk)
    for name in ("deploy.sh", "deploy-curl.sh"):
        result = deploy(site, script(name), application, 'touch "$APP/deployed"')
        check(result.returncode != 0, f"{name} went on without a point: {result.stdout}")
        check(not os.path.exists(os.path.join(application.folder, "deployed")), f"{name} deployed without a point")


if __name__ == "__main__":
    main()
