# SPDX-License-Identifier: Apache-2.0
"""A libvirt host of the test's own: libvirtd in a mount namespace where all its folders are the test's, reached by the socket in one of them."""
import os
import shutil

from guest import HERE
from harness import ROOT, defer, fresh, run, start, stop, wait_until

QEMU_CONF = """user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"""
FOLDERS = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "run": "/run/libvirt", "cache": "/var/cache/libvirt", "log": "/var/log/libvirt"}

USERS = {"passwd": "/etc/passwd", "group": "/etc/group"}


NETWORK = "<network><name>{0}</name><forward mode='bridge'/><bridge name='{0}'/></network>"


class Hypervisor:
    """With a network, it and its machines are in a network namespace where nothing else is."""

    def __init__(self, network=None):
        run(os.path.join(ROOT, "cmake", "install-packages.sh"), os.path.join(HERE, "libvirt-packages.txt"), timeout=1200)
        self.folder = fresh("libvirt")
        for name, place in FOLDERS.items():
            os.makedirs(place, exist_ok=True)
            path = os.path.join(self.folder, name)
            if name == "etc":
                shutil.copytree(place, path)
            else:
                os.makedirs(path)
        with open(os.path.join(self.folder, "etc", "qemu.conf"), "w") as f:
            f.write(QEMU_CONF)
        with open(os.path.join(self.folder, "etc", "libvirtd.conf"), "w") as f:
            f.write('auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n')
        self.add_users()
        binds = "; ".join(f"mount --bind {self.folder}/{name} {place}" for name, place in {**FOLDERS, **USERS}.items())
        socket = os.path.join(self.folder, "run", "libvirt-sock")
        if network:
            binds += f"; ip link set lo up; ip link add {network} type bridge; ip link set {network} up"
        self.process = start(["unshare", "--mount", *(["--net"] if network else []), "--propagation", "private", "sh", "-ec",
                              binds + f"; exec libvirtd --config /etc/libvirt/libvirtd.conf --pid-file {self.folder}/pid"],
                             log=self.folder + ".log")
        self.uri = "qemu+unix:///system?socket=" + socket
        defer(self.destroy_all)
        wait_until(lambda: os.path.exists(socket) and self.virsh("list") is not None, "libvirtd to answer", 60)
        if network:
            self.start_network(network)

    def start_network(self, name):
        path = os.path.join(self.folder, name + ".xml")
        with open(path, "w") as f:
            f.write(NETWORK.format(name))
        self.virsh("net-define", path)
        self.virsh("net-start", name)

    def add_users(self):
        """libvirtd does not start without the user that another package of it makes, though qemu runs as root here."""
        for name, place in USERS.items():
            with open(place) as source, open(os.path.join(self.folder, name), "w") as copy:
                text = source.read()
                copy.write(text)
                if "\nlibvirt-qemu:" not in text:
                    copy.write(f"libvirt-qemu:x:64055:{'64055::/nonexistent:/usr/sbin/nologin' if name == 'passwd' else ''}\n")

    def virsh(self, *command, ok=(0,)):
        return run("virsh", "-q", "-c", self.uri, *command, ok=ok)

    def domains(self):
        return self.virsh("list", "--all", "--uuid").split()

    def destroy_all(self):
        if self.process.poll() is None:
            for domain in self.domains():
                self.virsh("destroy", domain, ok=None)

    def stop(self):
        self.destroy_all()
        stop(self.process)
