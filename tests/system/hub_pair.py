# SPDX-License-Identifier: Apache-2.0
"""Two hubs on one PostgreSQL, and what they serve. Agents, nodes and vault reach them through a forwarder that connects to the first hub that
is there, as a load balancer does."""
import contextlib
import os
import re
import shutil
import signal
import socket
import threading
import time

from api_client import Api
from harness import BIN, MIB, Disk, Postgres, check, defer, fresh, free_port_base, run, start, wait_until


class Forwarder:
    """Each connection goes to the first of `ports` that takes it; when one end closes, so does the other."""

    def __init__(self, ports):
        self.ports = ports
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        defer(self.listener.close)

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        for port in self.ports:
            with contextlib.suppress(OSError):
                hub = socket.create_connection(("127.0.0.1", port))
                back = threading.Thread(target=self.pump, args=(hub, client), daemon=True)
                back.start()
                self.pump(client, hub)
                return
        client.close()

    @staticmethod
    def pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Hub:
    def __init__(self, database, base, ca_of=None, options=()):
        self.data, self.control, self.api_port = fresh("hub"), base, base + 1
        os.mkdir(self.data)
        os.chmod(self.data, 0o711)
        if ca_of:
            shutil.copytree(os.path.join(ca_of.data, "ca"), os.path.join(self.data, "ca"))
        self.log = self.data + ".log"
        self.database, self.options = database, options
        self.start()

    def start(self):
        dsn = f"host={self.database.socket} user=postgres dbname=postgres"
        self.process = start([os.path.join(BIN, "leeward-hub"), "--data", self.data, "--database", dsn, "--listen",
                              f"127.0.0.1:{self.control}", "--api-listen", f"127.0.0.1:{self.api_port}",
                              "--database-connections", "12", "--job-threads", "2", *self.options], log=self.log)

    def api(self, token_of):
        with open(os.path.join(token_of.data, "admin.token")) as f:
            token = f.read().strip()
        return Api({"LEEWARD_URL": f"https://127.0.0.1:{self.api_port}", "LEEWARD_TOKEN": token,
                    "LEEWARD_CA": os.path.join(self.data, "ca", "ca.pem")})

    def finished_jobs(self):
        with open(self.log, errors="replace") as f:
            return len(re.findall(r"\bjob_finished\b", f.read()))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Pair:
    """Two hubs, a vault, and nodes and agents, each agent with one protected disk. The first node is called `node`, the first agent `source`."""

    def __init__(self, nodes=1, agents=1, disk_mib=48, hub_options=()):
        self.disk_bytes = disk_mib * MIB
        folder = fresh("database")
        os.mkdir(folder)
        os.chmod(folder, 0o711)
        self.database = Postgres(folder)
        self.database.start()
        base = free_port_base(5 + nodes)
        self.one = Hub(self.database, base, options=hub_options)
        self.first = wait_until(lambda: self.one.api(self.one), "the first hub's token", 60)
        wait_until(lambda: self.first.ask("GET", "/status")[0] == 200, "the first hub", 60)
        self.two = Hub(self.database, base + 2, ca_of=self.one, options=hub_options)
        self.second = self.two.api(self.one)
        wait_until(lambda: self.second.ask("GET", "/status")[0] == 200, "the second hub", 60)
        self.forwarder = Forwarder([self.one.control, self.two.control])
        self.vault = self.peer("vault", "--listen", f"127.0.0.1:{base + 4}", "--advertise", f"127.0.0.1:{base + 4}")
        self.nodes = {}
        for i in range(nodes):
            self.start_node(f"node-{i}" if i else "node", base + 5 + i)
        wait_until(lambda: self.first.done("GET", "/status")["vaults"]["online"] and
                   self.first.done("GET", "/status")["nodes"]["online"] == nodes, "vault and nodes", 60)
        self.agents, self.disks = {}, {}
        for i in range(agents):
            self.start_agent(f"source-{i}" if i else "source")

    def start_node(self, name, port):
        self.nodes[name] = self.peer("node", "--name", name, "--listen", f"127.0.0.1:{port}", "--advertise", f"127.0.0.1:{port}")

    def start_agent(self, name):
        self.start_bare_agent(name)
        disk = self.disks[name] = Disk(self.disk_bytes)
        disk.make_fs("ext4")
        job = self.first.done("POST", f"/machines/{name}/protect", {"disks": [self.key(name, disk)]}, Idempotency_Key=f"protect-{name}")
        self.wait_for(self.first, job)

    def start_bare_agent(self, name, *options):
        """One that protects nothing."""
        instance, data = f"{name}-{os.getpid()}", fresh("agent")
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", instance, "--data", data)
        self.agents[name] = self.peer("agent", "--instance", instance, "--name", name, *options, data=data)

    def key(self, name, disk):
        """Under which the agent of that name lists the disk."""
        return wait_until(lambda: [d["key"] for d in self.items(f"/machines/{name}/disks") if d["device"] == disk.device],
                          "the disk to be seen", 60)[0]

    def items(self, path):
        return self.first.done("GET", path)["items"]

    def peer(self, role, *options, data=None):
        token = self.first.done("POST", "/enrolment-tokens", {"role": role})["token"]
        data = data or fresh(role)
        return start([os.path.join(BIN, "leeward-" + role), "--data", data, "--hub", f"127.0.0.1:{self.forwarder.port}", "--token", token,
                      *options], log=data + ".log")

    def leave_it_to_the_first(self):
        """The second hub stands still, and not in the middle of a transaction: what that has locked would be missed by the first."""
        defer(lambda: self.two.process.poll() is None and self.two.process.send_signal(signal.SIGCONT))

        def open_transactions():
            return set(self.database.sql("SELECT pid || ' ' || xact_start FROM pg_stat_activity WHERE xact_start IS NOT NULL"
                                         " AND backend_type = 'client backend' AND pid <> pg_backend_pid()").splitlines())

        def stands_still():
            self.two.process.send_signal(signal.SIGSTOP)
            lasting = open_transactions()
            for _ in range(3):
                if lasting:
                    time.sleep(0.2)
                    lasting &= open_transactions()
            if lasting:
                self.two.process.send_signal(signal.SIGCONT)
            return not lasting
        wait_until(stands_still, "the second hub to be between two transactions", 60)

    def wait_for(self, api, job, timeout=120):
        now = api.ended(job, timeout)
        check(now["status"] == "succeeded", f"{job['kind']}: {now['problem']}")
        return now
