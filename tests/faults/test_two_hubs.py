#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two hubs on one PostgreSQL share the work, and one goes on with everything when the other is killed.

Agent, node and vault reach them through a forwarder that connects to the first hub that is there, as a load balancer does.
"""
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from api_client import Api  # noqa: E402
from harness import (BIN, MIB, Disk, Postgres, check, defer, fresh, free_port_base, main, note, run, start, stop, test,  # noqa: E402
                     wait_until)


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
    def __init__(self, database, base, ca_of=None):
        self.data, self.control, self.api_port = fresh("hub"), base, base + 1
        os.mkdir(self.data)
        os.chmod(self.data, 0o711)
        if ca_of:
            shutil.copytree(os.path.join(ca_of.data, "ca"), os.path.join(self.data, "ca"))
        self.log = self.data + ".log"
        self.database = database
        self.start()

    def start(self):
        dsn = f"host={self.database.socket} user=postgres dbname=postgres"
        self.process = start([os.path.join(BIN, "leeward-hub"), "--data", self.data, "--database", dsn, "--listen",
                              f"127.0.0.1:{self.control}", "--api-listen", f"127.0.0.1:{self.api_port}",
                              "--database-connections", "12", "--job-threads", "2"], log=self.log)

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
    """Two hubs, a vault, a node and an agent with one protected disk."""

    def __init__(self):
        folder = fresh("database")
        os.mkdir(folder)
        os.chmod(folder, 0o711)
        self.database = Postgres(folder)
        self.database.start()
        base = free_port_base(8)
        self.one = Hub(self.database, base)
        self.first = wait_until(lambda: self.one.api(self.one), "the first hub's token", 60)
        wait_until(lambda: self.first.ask("GET", "/status")[0] == 200, "the first hub", 60)
        self.two = Hub(self.database, base + 2, ca_of=self.one)
        self.second = self.two.api(self.one)
        wait_until(lambda: self.second.ask("GET", "/status")[0] == 200, "the second hub", 60)
        self.forwarder = Forwarder([self.one.control, self.two.control])
        self.vault = self.peer("vault", "--listen", f"127.0.0.1:{base + 4}", "--advertise", f"127.0.0.1:{base + 4}")
        self.node = self.peer("node", "--listen", f"127.0.0.1:{base + 5}", "--advertise", f"127.0.0.1:{base + 5}")
        instance, data = f"two-{os.getpid()}", fresh("agent")
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", instance, "--data", data)
        self.agent = self.peer("agent", "--instance", instance, "--name", "source", data=data)
        disk = Disk(48 * MIB)
        disk.make_fs("ext4")
        key = wait_until(lambda: [d["key"] for d in self.items("/machines/source/disks") if d["device"] == disk.device],
                         "the disk to be seen", 60)[0]
        wait_until(lambda: self.first.done("GET", "/status")["vaults"]["online"] and
                   self.first.done("GET", "/status")["nodes"]["online"], "vault and node", 60)
        job = self.first.done("POST", "/machines/source/protect", {"disks": [key]}, Idempotency_Key="protect")
        self.wait_for(self.first, job)

    def items(self, path):
        return self.first.done("GET", path)["items"]

    def peer(self, role, *options, data=None):
        token = self.first.done("POST", "/enrolment-tokens", {"role": role})["token"]
        data = data or fresh(role)
        process = start([os.path.join(BIN, "leeward-" + role), "--data", data, "--hub", f"127.0.0.1:{self.forwarder.port}",
                         "--token", token, *options], log=data + ".log")
        return process

    def wait_for(self, api, job, timeout=120):
        def over():
            now = api.done("GET", f"/jobs/{job['id']}")
            return now if now["status"] in ("succeeded", "failed", "cancelled") else None
        now = wait_until(over, f"the job {job['kind']}", timeout)
        check(now["status"] == "succeeded", f"{job['kind']}: {now['problem']}")
        return now


@test
def two_hubs_share_the_work_and_one_goes_on_alone():
    pair = Pair()
    serial = 0
    while not (pair.one.finished_jobs() and pair.two.finished_jobs()):
        check(serial < 200, "one of two hubs has worked on none of 200 jobs")
        jobs = []
        for api in (pair.first, pair.second) * 5:
            serial += 1
            jobs.append((api, api.done("POST", "/machines/source/points", {"tag": f"t{serial}"}, Idempotency_Key=f"k{serial}")))
        for api, job in jobs:
            pair.wait_for(api, job)
    note(f"{pair.one.finished_jobs()} jobs by the first hub, {pair.two.finished_jobs()} by the second")
    checked = wait_until(lambda: pair.database.sql("SELECT checked_at FROM alert_sweep WHERE checked_at IS NOT NULL"),
                         "a hub to watch over alerts", 90)
    # A job that waits for the vault, whose session the first hub has.
    pair.vault.send_signal(signal.SIGSTOP)
    vault = pair.items("/vaults")[0]
    waiting = pair.first.done("POST", f"/vaults/{vault['id']}/verify", {}, Idempotency_Key="verify")
    wait_until(lambda: pair.second.done("GET", f"/jobs/{waiting['id']}")["status"] == "running", "the job to run", 60)
    pair.one.kill()
    killed = time.monotonic()
    pair.vault.send_signal(signal.SIGCONT)
    pair.wait_for(pair.second, waiting)
    note(f"the job that waited was done {time.monotonic() - killed:.1f} s after the kill")
    wait_until(lambda: pair.database.sql(f"SELECT checked_at > timestamptz '{checked}' + interval '10 seconds' FROM alert_sweep") == "t",
               "the other hub to watch over alerts", 90)
    point = pair.second.done("POST", "/machines/source/points", {"tag": "alone"}, Idempotency_Key="alone")
    pair.wait_for(pair.second, point)


@test
def a_job_that_a_killed_hub_holds_is_taken_over():
    pair = Pair()
    pair.database.sql("""
        CREATE FUNCTION hold_still() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(300); RETURN NEW; END $$;
        CREATE TRIGGER hold_still BEFORE UPDATE ON job_steps FOR EACH ROW WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION hold_still()""")
    pair.two.process.send_signal(signal.SIGSTOP)  # so that it is the first hub that claims it
    defer(lambda: pair.two.process.poll() is None and pair.two.process.send_signal(signal.SIGCONT))
    job = pair.first.done("POST", "/machines/source/points", {"tag": "held"}, Idempotency_Key="held")
    asleep = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    backend = wait_until(lambda: pair.database.sql(asleep), "the first hub to be in the middle of a step", 60)
    pair.two.process.send_signal(signal.SIGCONT)
    pair.one.kill()
    killed = time.monotonic()
    pair.database.sql(f"SELECT pg_terminate_backend({backend})")
    wait_until(lambda: not pair.database.sql(asleep), "its connection to be gone", 30)
    pair.database.sql("DROP TRIGGER hold_still ON job_steps")
    claimed = wait_until(lambda: pair.second.done("GET", f"/jobs/{job['id']}")["steps"][0]["status"] == "succeeded" and
                         time.monotonic(), "the other hub to do the step", 60, 0.05)
    note(f"taken over {claimed - killed:.1f} s after the kill")
    pair.wait_for(pair.second, job)
    points = pair.second.done("GET", "/machines/source/points?tag=held")["items"]
    check(len(points) == 1, f"{len(points)} points were made by one job")
    stop(pair.two.process)


if __name__ == "__main__":
    main()
