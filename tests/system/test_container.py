#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The container's image without a container engine: its tree, made by the same list of packages and the same script, and hub, vault
and node started from it as the chart starts them: read-only root, one unprivileged user, no capability, volumes for data alone."""
import json
import os
import re
import signal
import urllib.error
import urllib.request

import harness
from booted import Overlay, packages_of, tree
from harness import BIN, ROOT, check, defer, fresh, free_port_base, main, run, start, stop, test, undo, wait_until

CONTAINER = os.path.join(ROOT, "packaging", "container")
USER = 64200
DEBS = ["cli", "hub", "nbd", "node", "vault"]  # as in install.sh


def bring_up():
    global image, ports
    folder = fresh("packages")
    run(os.path.join(ROOT, "packaging", "make-packages.sh"), os.path.dirname(BIN), folder, timeout=300)
    with open(os.path.join(CONTAINER, "install.sh")) as f:
        named = re.findall(r"/leeward-(\w+)_\*\.deb", f.read())
    check(sorted(named) == DEBS, f"the image installs {named}")
    debs = [os.path.join(folder, d) for d in os.listdir(folder) if re.match(rf"leeward-({'|'.join(DEBS)})_", d)]
    with open(os.path.join(CONTAINER, "packages.txt")) as f:
        more = [line.strip() for line in f if line.strip() and not line.startswith("#")]
    lower = tree("container", sorted({*packages_of(debs, without=("systemd",)), *more}))
    image = Overlay(lower)
    build = image.path("/build")
    os.mkdir(build)
    for path in [os.path.join(CONTAINER, "install.sh"), *debs]:
        with open(path, "rb") as source, open(os.path.join(build, os.path.basename(path)), "wb") as target:
            target.write(source.read())
    os.chmod(os.path.join(build, "install.sh"), 0o755)
    mount(image, "--bind", "/proc", "/proc")
    mount(image, "--bind", "/dev", "/dev")
    run("chroot", image.root, "/build/install.sh", "--offline", "/build", timeout=300)
    run("rm", "-r", build)
    for role in ("hub", "node", "vault"):
        for mount_point in (f"/run/secrets/leeward/{role}", f"/var/lib/leeward/{role}"):  # a container engine makes them too
            os.makedirs(image.path(mount_point), exist_ok=True)
    ports = free_port_base(6)
    defer(harness.unmount, image.root)
    run("mount", "--bind", image.root, image.root)
    run("mount", "-o", "remount,bind,ro", image.root)


def mount(where, *words):
    *options, target = words
    entry = defer(harness.unmount, where.path(target))
    run("mount", *options, where.path(target))
    return entry


def volume(path, read_only_files=None):
    """A volume of a pod; with files it is a secret. Its undoing."""
    entry = mount(image, "-t", "tmpfs", "-o", f"mode=770,gid={USER}", "tmpfs", path)
    for name, text in (read_only_files or {}).items():
        target = os.path.join(image.path(path), name)
        with open(target, "w") as f:
            f.write(text)
        os.chown(target, 0, USER)
        os.chmod(target, 0o440)
    if read_only_files:
        run("mount", "-o", "remount,ro", image.path(path))
    return entry


def contained(program, *arguments):
    return ["chroot", image.root, "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--bounding-set=-all",
            "--inh-caps=-all", "--no-new-privs", f"/usr/bin/{program}", *arguments]


def daemon(program, *arguments):
    log = fresh(program + ".log")
    process = start(contained(program, *arguments), log=log)
    process.log_path = log
    return process


def said(process):
    with open(process.log_path, errors="replace") as f:
        return f.read()


def start_hub():
    return daemon("leeward-hub", "--data=/var/lib/leeward/hub", f"--listen=127.0.0.1:{ports}", f"--api-listen=127.0.0.1:{ports + 1}",
                  "--database-file=/run/secrets/leeward/hub/dsn")


def cli(*words):
    env = {"LEEWARD_URL": f"https://127.0.0.1:{ports + 1}", "LEEWARD_CA": "/var/lib/leeward/hub/ca/ca.pem", "LEEWARD_TOKEN": admin,
           "HOME": "/tmp", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return json.loads(run(*contained("leeward", *words, "-o", "json"), env=env))


def get(port, path):
    """(status, text) of a probe."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as problem:
        return problem.code, problem.read().decode()


def is_up(process):
    check(process.poll() is None, f"it ended with {process.returncode}: {said(process)[-600:]}")
    return True


@test
def test_whole_site():
    """One test, since what it starts ends with it: hub with its CA in a volume, then in a secret; vault, node; drained at SIGTERM."""
    global admin
    folder = fresh("database")
    os.mkdir(folder)
    os.chmod(folder, 0o711)
    database = harness.Postgres(folder)
    database.start()
    os.chmod(database.socket, 0o755)
    mount(image, "--bind", database.socket, "/mnt")
    volume("/tmp")
    volume("/run/secrets/leeward/hub", {"dsn": "host=/mnt user=postgres dbname=postgres\n"})
    data = volume("/var/lib/leeward/hub")

    hub = start_hub()
    wait_until(lambda: is_up(hub) and " ready " in said(hub), "the hub to be ready", 120)
    admin = read("/var/lib/leeward/hub/admin.token").strip()
    ca = {name: read(f"/var/lib/leeward/hub/ca/{name}") for name in ("ca.pem", "ca.key")}
    stop(hub)
    undo(data)

    volume("/var/lib/leeward/hub")
    os.mkdir(image.path("/var/lib/leeward/hub/ca"))
    volume("/var/lib/leeward/hub/ca", ca)
    hub = start_hub()
    wait_until(lambda: is_up(hub) and cli("status"), "the hub to answer with the CA of a secret", 120)

    running = {}
    for role, port in (("vault", ports + 2), ("node", ports + 3)):
        volume(f"/run/secrets/leeward/{role}", {"token": cli("enrol-token", "create", "--role", role)["token"]})
        volume(f"/var/lib/leeward/{role}")
        more = [f"--probe-listen=127.0.0.1:{ports + 4}", "--drain-time=60s", "--name=leeward-node-0"] if role == "node" else []
        running[role] = daemon(f"leeward-{role}", f"--data=/var/lib/leeward/{role}", f"--hub=127.0.0.1:{ports}", f"--listen=127.0.0.1:{port}",
                               f"--advertise=127.0.0.1:{port}", f"--token-file=/run/secrets/leeward/{role}/token", *more)

    def online():
        status = all(is_up(p) for p in running.values()) and cli("status")
        return status and status["nodes"]["online"] == 1 and status["vaults"]["online"] == 1
    wait_until(online, "node and vault to be online", 120, 0.3)
    wait_until(lambda: get(ports + 4, "/readyz")[0] == 200, "the node to be ready", 60)
    check(get(ports + 4, "/healthz") == (200, "alive\n"), "not alive")
    metrics = get(ports + 4, "/metrics")[1]
    check("\nleeward_node_hub_connected 1\n" in metrics and "\nleeward_node_ready 1\n" in metrics, metrics)

    stop(hub)
    check(get(ports + 4, "/readyz")[0] == 200, "a node without its hub is not ready any more")
    check(stop(running["node"], signal.SIGTERM, grace_s=90) == 0, "the node did not end in order: " + said(running["node"])[-300:])
    check("drained" in said(running["node"]), "it did not drain")
    check(stop(running["vault"]) == 0, "the vault did not end in order")
    changed = [p for p in ("/usr", "/etc", "/opt") if run("find", image.path(p), "-newer", image.path("/run/secrets"), "-not", "-type", "d").strip()]
    check(not changed, f"something was written to {changed}")


def read(path):
    with open(image.path(path)) as f:
        return f.read()


bring_up()
main()
