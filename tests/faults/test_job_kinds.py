#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hub is killed in each step of jobs about disks, keys, branches, nodes, groups and copies; each goes on and ends well (held_jobs.py says how).

Every kind of job that the hub's sources define is killed in each of its steps by one of the three programs, or a test fails.
"""
import ast
import glob
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from held_jobs import HeldJobs, restarted_at_once  # noqa: E402
from node_site import Node  # noqa: E402
from vault_site import Vault  # noqa: E402
from harness import (BIN, ROOT, MIB, Disk, Failure, Site, check, defer, free_port_base, fresh, image_of, main, note, run, start, test,  # noqa: E402
                     wait_until)

KINDS = ("branch_open", "vault_rotate_key", "machine_rotate_key", "disk_add", "disk_resize", "disk_exclude", "machine_move", "group_point", "branch_promote", "copy", "copy_remove", "copy_use")
PROGRAMS = ("test_job_steps.py", "test_job_kinds.py", "test_job_failovers.py")


def kinds_in_the_sources():
    """What hub/jobs defines, by the name that the jobs carry."""
    found = []
    for path in glob.glob(os.path.join(ROOT, "hub", "jobs", "*.c")):
        with open(path) as f:
            text = f.read()
        names = re.findall(r"const struct job_kind job_kind_\w+ = \{\s*\.name = \"(\w+)\"", text)
        check(len(names) == len(re.findall(r"^const struct job_kind job_kind_", text, re.M)), f"{path}: a kind without a name")
        found += names
    check(len(set(found)) == len(found) > 20, f"kinds of jobs: {sorted(found)}")
    return set(found)


class Worker(HeldJobs):
    """A site with a protected disk whose jobs can be held in the middle of a step."""

    def __init__(self):
        self.disk, self.second = Disk(48 * MIB, name="first"), Disk(16 * MIB, name="second")
        self.disk.make_fs("ext4")
        self.second.fill_random(50)
        ports = free_port_base(2)
        self.group_addresses = [f"127.0.0.1:{ports + i}" for i in range(2)]
        super().__init__(Site(daemon_options={"agent": self.group_options(0)}, daemon_starters=restarted_at_once()))
        self.machine = self.site.machine()["name"]
        self.path = f"/machines/{self.machine}"
        self.do("POST", self.path + "/protect", {"disks": [self.site.disk_key(self.disk)]})

    def group_options(self, i):
        return ["--group-listen", self.group_addresses[i], "--group-advertise", self.group_addresses[i]]

    def second_machine(self):
        """With an agent of its own and a protected disk, for a group."""
        data, instance = fresh("member"), self.site.instance + "-member"
        disk = Disk(8 * MIB, name="member")
        disk.fill_random(20)
        token = self.site.cli("enrol-token", "create", "--role", "agent")["token"]
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", instance, "--data", data)
        start([os.path.join(BIN, "leeward-agent"), "--data", data, "--hub", f"127.0.0.1:{self.site.port_base + 1}", "--token", token,
               "--instance", instance, "--name", "member", *self.group_options(1)], log=data + ".log")
        key = wait_until(lambda: next((d["key"] for d in self.api.done("GET", "/machines/member/disks")["items"]
                                       if d["device"] == disk.device), None), "the second machine and its disk", 90)
        self.do("POST", "/machines/member/protect", {"disks": [key]})

    def now(self):
        return self.api.done("GET", self.path)

    def make_branch(self, name):
        sequence = self.do("POST", self.path + "/points", {})["result"]["sequence"]
        return self.do("POST", "/branches", {"machine": self.machine, "sequence": int(sequence), "name": name})["result"]


# ---- scenes, in this order ----

def branches_and_keys(w):
    made = w.make_branch("kept")["export_id"]
    w.do("POST", f"/branches/{made}/close")
    vault = w.api.done("GET", "/vaults")["items"][0]["id"]
    w.all_through(("branch_open", "POST", f"/branches/{made}/open", {}),
                  ("vault_rotate_key", "POST", f"/vaults/{vault}/rotate-key"),
                  ("machine_rotate_key", "POST", w.path + "/rotate-key"))
    check([b["state"] for b in w.api.done("GET", "/branches")["items"]] == ["open"], "the branch is not open")
    w.do("DELETE", f"/branches/{made}")


def disks_nodes_and_groups(w):
    second = [w.site.disk_key(w.second)]
    w.through("disk_add", "POST", w.path + "/disks/add", {"disks": second})
    w.through("disk_resize", "POST", w.path + "/disks/resize", {"disks": second})
    w.through("disk_exclude", "POST", w.path + "/disks/exclude", {"disks": second})
    other = Node(w.site, "other")
    moved = w.through("machine_move", "POST", w.path + "/move", {"node_id": other.shown()["id"]})
    check(w.now()["node_name"] == "other", moved)
    first = next(n for n in w.api.done("GET", "/nodes")["items"] if n["name"] != "other")
    w.do("POST", w.path + "/move", {"node_id": first["id"]})
    other.stop()
    w.second_machine()
    group = w.site.cli("group", "create", "both", "--interval", "0", "--machine", w.machine, "--machine", "member")["id"]
    w.through("group_point", "POST", f"/groups/{group}/points")
    check(len(w.api.done("GET", f"/groups/{group}/points")["items"]) == 1, "one job made another number of group points")
    w.site.cli("group", "delete", "both")


def copies_in_another_vault(w):
    old = Vault(w.site, "old")
    copied = w.through("copy", "POST", w.path + "/copies", {"vault": "old"})["result"]
    listed = w.api.done("GET", w.path + "/copies")["items"]
    check([c["vault_name"] for c in listed] == ["old"] and listed[0]["source_sequence"] >= copied["source_sequence"] > 0, f"{listed} {copied}")
    check(w.api.done("GET", w.path + "/copies/old/points")["items"], "the copy has no point")
    w.through("copy_remove", "DELETE", w.path + "/copies/old")
    check(w.api.done("GET", w.path + "/copies")["items"] == [], "the copy is still there")
    wait_until(lambda: os.listdir(os.path.join(old.data, "machines")) == [], "what the vault had to be gone", 30)
    # The other machine's vault is lost for good.
    site_vault = next(v["name"] for v in w.api.done("GET", "/vaults")["items"] if v["name"] != "old")
    disks = [d["key"] for d in w.api.done("GET", "/machines/member/disks")["items"] if d["protected"]]
    w.do("POST", "/machines/member/unprotect")
    w.do("POST", "/machines/member/erase")
    w.do("POST", "/machines/member/protect", {"disks": disks, "vault_id": old.shown()["id"]})
    w.do("POST", "/machines/member/copies", {"vault": site_vault})
    old.kill()
    wait_until(lambda: not old.shown()["online"], "the hub to miss the vault", 60, 0.2)
    w.through("copy_use", "POST", f"/machines/member/copies/{site_vault}/use", {"confirm": "member"})
    member = w.api.done("GET", "/machines/member")
    check(member["vault_name"] == site_vault and w.api.done("GET", "/machines/member/points")["items"], f"{member}")


def a_branch_becomes_the_main_line(w):
    made = w.make_branch("main")
    uri = next(d["uri"] for d in made["disks"])
    run("qemu-io", "-f", "raw", "-c", "write -P 0x5c 4M 1M", "-c", "flush", uri)
    copy = fresh("branch.img")
    run("nbdcopy", uri, copy)
    w.do("POST", w.path + "/unprotect")
    generation = w.now()["generation"]
    promoted = int(w.through("branch_promote", "POST", f"/branches/{made['export_id']}/promote")["result"]["sequence"])
    check(w.now()["generation"] == generation + 1, f"generation {generation} became {w.now()['generation']}")
    check(not w.api.done("GET", "/branches")["items"], "the branch is still there")
    newest = w.api.done("GET", w.path + "/points?sort=-sequence&limit=2")["items"]
    check(newest[0]["sequence"] == promoted and newest[0]["generation"] == generation + 1 > newest[1]["generation"], f"the newest points: {newest}")
    export = w.do("POST", "/exports", {"machine": w.machine, "sequence": promoted})["result"]
    opened = fresh("point.img")
    run("nbdcopy", next(d["uri"] for d in export["disks"]), opened)
    check(image_of(opened) == image_of(copy), "the machine's newest point is not what the branch held")
    w.do("DELETE", f"/exports/{export['export_id']}")


SCENES = (branches_and_keys, disks_nodes_and_groups, copies_in_another_vault, a_branch_becomes_the_main_line)


def kinds_of(program):
    """The KINDS of a program, which its test compares with those of the jobs in whose steps it killed the hub."""
    with open(os.path.join(HERE, program)) as f:
        for statement in ast.parse(f.read()).body:
            if isinstance(statement, ast.Assign) and statement.targets[0].id == "KINDS":
                return ast.literal_eval(statement.value)
    raise Failure(f"{program} has no KINDS")


@test
def every_kind_of_job_is_killed_in_each_of_its_steps():
    there, table = kinds_in_the_sources(), [kind for program in PROGRAMS for kind in kinds_of(program)]
    check(set(table) == there,
          f"in no table: {sorted(there - set(table))}; in one and no more there: {sorted(set(table) - there)}")


@test
def jobs_about_disks_keys_nodes_and_groups_go_on_too():
    worker = Worker()
    for scene in SCENES:
        note(scene.__name__)
        scene(worker)
    worker.has_killed_in(KINDS)


if __name__ == "__main__":
    main()
