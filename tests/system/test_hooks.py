#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hooks that ship, with real servers on a protected disk: PostgreSQL and MariaDB.

While clients write, an app-consistent point is made. The database of that point is started on a branch: everything committed
before the freeze must be there, also what the server had not been told to write at once, and nothing but the usual recovery may
be needed. What a hook holds is let go when the agent dies.
"""
import os
import shutil
import socket
import subprocess
import threading
import time

from harness import (MIB, ROOT, CliError, Disk, Postgres, Site, check, defer, fresh, main, note, point_time, run, start, stop, test,
                     undo, wait_until)

SHIPPED = os.path.join(ROOT, "mobility", "hooks.d")


def hooks_folder(*names, conf):
    """A folder of hooks as /etc/leeward would have it, with hooks.conf beside it."""
    folder = os.path.join(fresh("etc"), "hooks.d")
    os.makedirs(folder)
    for name in names:
        shutil.copy(os.path.join(SHIPPED, name), folder)
    with open(os.path.join(os.path.dirname(folder), "hooks.conf"), "w") as f:
        f.write(conf)
    return folder


def add_hook(folder, name, body):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write("#!/bin/sh\n" + body + "\n")
    os.chmod(path, 0o755)


class Writer(threading.Thread):
    """Feeds numbered statements to one session of a client; remembers when each number was answered as committed."""

    def __init__(self, command, statement, env=None):
        super().__init__(daemon=True)
        self.client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                       bufsize=1, env=env)
        self.statement = statement
        self.committed = []
        self.ending = False
        self._undo = defer(self.end)
        self.start()

    def run(self):
        number = 0
        while not self.ending:
            number += 1
            try:
                self.client.stdin.write(self.statement.format(n=number) + "\n")
                answered = self.client.stdout.readline().strip() == str(number)
            except (OSError, ValueError):
                return
            if not answered:
                return
            self.committed.append(time.time())

    def wait_more(self, count=50):
        goal = len(self.committed) + count
        wait_until(lambda: len(self.committed) >= goal, "the writer to go on", 60, 0.02)

    def before(self, moment):
        return sum(1 for t in self.committed if t < moment)

    def end(self):
        self.ending = True
        self.client.kill()
        self.client.wait()
        self.join(10)

    def finish(self):
        undo(self._undo)


def app_point(site):
    """A new app-consistent point, as the list by kind has it."""
    answer = site.create_point("--app")
    listed = site.items("point", "list", site.machine()["id"], "--kind", "application")
    check({p["kind"] for p in listed} == {"application"}, "the list by kind has other kinds")
    shown = next(p for p in listed if p["sequence"] == int(answer["sequence"]))
    check(shown["frozen"], f"not frozen: {shown}")
    return shown


def row_at(site, point, query):
    """What PostgreSQL answers when it is started on a branch of the point."""
    export = site.open(point["sequence"], write=True)
    branch = export.attach()
    copy = Postgres(branch.mount(), create=False)
    os.unlink(os.path.join(copy.folder, "postmaster.pid"))
    copy.start()
    answer = copy.sql(query)
    copy.stop()
    branch.detach()
    export.close()
    return answer


def freeze_alone(hook, conf, path=None):
    """Exit status and output of a hook that is run by itself, where nothing runs that it could find: /run is empty, in a namespace of mounts."""
    state, folder = fresh("state"), hooks_folder(hook, conf=conf)
    os.mkdir(state)
    script = ('mount -t tmpfs tmpfs /run && mkdir -p /run/mysqld && '
              'if [ -n "$SERVER" ]; then python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\'/run/mysqld/mysqld.sock\')"; fi && '
              f'PATH=${{HOOK_PATH:-$PATH}} exec {folder}/{hook} freeze')
    result = subprocess.run(["unshare", "--mount", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, timeout=120, env=dict(os.environ, LEEWARD_RUN=state, HOOK_PATH=path or "", SERVER="yes" if path else ""))
    return result.returncode, result.stdout.strip()


@test
def a_server_that_is_named_and_not_there_makes_no_app_consistent_point():
    nowhere = fresh("nowhere")
    for hook, setting in (("10-postgresql", "POSTGRESQL_SOCKETS"), ("20-mariadb", "MARIADB_SOCKETS")):
        status, said = freeze_alone(hook, f"{setting}={nowhere}\n")
        check(status == 1 and nowhere in said and setting in said and "hooks.conf" in said, f"{hook}, named and not there: {status}, {said}")
        status, said = freeze_alone(hook, "")
        check((status, said) == (0, ""), f"{hook}, nothing named and nothing there: {status}, {said}")
    # A server that is there and cannot be spoken to.
    tools = fresh("tools")
    os.mkdir(tools)
    for tool in ("sh", "dirname", "mkdir", "rm"):
        os.symlink(shutil.which(tool), os.path.join(tools, tool))
    status, said = freeze_alone("20-mariadb", "", path=tools)
    check(status == 1 and "no client" in said, f"without a client: {status}, {said}")


@test
def an_app_consistent_point_of_a_busy_postgresql():
    disk = Disk(512 * MIB)
    disk.make_fs("ext4")
    database = Postgres(disk.mount())
    with open(os.path.join(database.folder, "postgresql.conf"), "a") as f:
        f.write("wal_writer_delay = 10s\nautovacuum = off\n")
    database.start()
    database.sql("CREATE TABLE ledger (n int); CREATE TABLE lazy (n int)")
    psql = ["psql", "-X", "-q", "-A", "-t"]
    hooks = hooks_folder("10-postgresql", conf=f"POSTGRESQL_SOCKETS={database.socket}\n")
    # What is committed with the promise that it is written some time, at the last moment: nothing else makes this server write its log then.
    settings = " ".join(f"{name}={database.env[name]}" for name in sorted(database.env) if name.startswith("PG"))
    late = "SET synchronous_commit = off; INSERT INTO lazy SELECT generate_series(1, 20)"
    add_hook(hooks, "05-late", f'[ "$1" = freeze ] || exit 0; {settings} {" ".join(psql)} -c "{late}"')
    # A pooler beside the server, as pgbouncer is by default, speaks to no stranger.
    pooler = socket.socket(socket.AF_UNIX)
    pooler.bind(os.path.join(database.socket, ".s.PGSQL.6432"))
    pooler.listen()
    defer(pooler.close)
    site = Site(daemon_options={"agent": ["--hooks-dir", hooks]})
    site.protect(disk)
    writer = Writer(psql, "INSERT INTO ledger VALUES ({n}) RETURNING n;", database.env)
    writer.wait_more(200)
    shown = app_point(site)
    writer.finish()
    rows, last = map(int, row_at(site, shown, "SELECT count(*), max(n) FROM ledger").split("|"))
    check(rows == last >= writer.before(point_time(shown)), f"{writer.before(point_time(shown))} were committed, {rows} are there")
    before = int(database.sql("SELECT count(*) FROM lazy"))
    lazy = int(row_at(site, app_point(site), "SELECT count(*) FROM lazy"))
    check(lazy == before + 20, f"{before + 20} were committed lazily, {lazy} are there")
    database.stop()


class MariaDb:
    """Runs as `nobody` in `folder`/db, with its socket in the test's own folder."""

    def __init__(self, folder, create=True):
        self.folder = os.path.join(folder, "db")
        self.run_folder = fresh("mysqld")
        os.mkdir(self.run_folder)
        shutil.chown(self.run_folder, "nobody", "nogroup")
        self.socket = os.path.join(self.run_folder, "sock")
        self.log = os.path.join(self.run_folder, "log")
        self.process = None
        if create:
            os.mkdir(self.folder)
            shutil.chown(self.folder, "nobody", "nogroup")
            run("mariadb-install-db", "--no-defaults", "--user=nobody", f"--datadir={self.folder}", f"--tmpdir={self.run_folder}", "--skip-test-db",
                "--innodb-log-file-size=8M", "--auth-root-authentication-method=socket")
        self.start()

    def start(self):
        self.process = start(["mariadbd", "--no-defaults", "--user=nobody", f"--datadir={self.folder}", f"--socket={self.socket}",
                              f"--tmpdir={self.run_folder}", f"--log-error={self.log}", f"--pid-file={self.run_folder}/pid", "--skip-networking",
                              "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0",
                              "--innodb-flush-log-at-timeout=60", "--performance-schema=off"])
        wait_until(lambda: self.sql("SELECT 1") == "1", "MariaDB to answer", 60, 0.2)

    def sql(self, text):
        return run("mariadb", "--no-defaults", f"--socket={self.socket}", "-u", "root", "-N", "-B", "-e", text).strip()

    def session(self):
        return ["mariadb", "--no-defaults", f"--socket={self.socket}", "-u", "root", "-N", "-B", "--unbuffered", "ledger"]

    def stop(self):
        stop(self.process)


@test
def an_app_consistent_point_of_a_busy_mariadb():
    disk = Disk(640 * MIB)
    disk.make_fs("ext4")
    database = MariaDb(disk.mount())
    database.sql("CREATE DATABASE ledger; CREATE TABLE ledger.inno (n int PRIMARY KEY) ENGINE=InnoDB;"
                 "CREATE TABLE ledger.isam (n int PRIMARY KEY, t varchar(200)) ENGINE=MyISAM")
    hooks = hooks_folder("20-mariadb", conf=f"MARIADB_SOCKETS={database.socket}\nMARIADB_OPTIONS=--no-defaults\n")
    site = Site(daemon_options={"agent": ["--hooks-dir", hooks]})
    site.protect(disk)
    writer = Writer(database.session(), "INSERT INTO isam VALUES ({n}, repeat('x', 150)); INSERT INTO inno VALUES ({n}); SELECT {n};")
    writer.wait_more(200)
    promised = len(writer.committed)
    shown = app_point(site)
    writer.wait_more(20)  # the lock is gone
    branch = site.open(shown["sequence"], write=True).attach()
    copy = MariaDb(branch.mount(), create=False)
    inno, isam = (int(copy.sql(f"SELECT count(*) FROM ledger.{table}")) for table in ("inno", "isam"))
    note("rows promised", promised, "InnoDB", inno, "MyISAM", isam)
    check(inno >= max(promised, writer.before(point_time(shown)) - 1), f"{promised} were committed, {inno} are in InnoDB")
    check(isam in (inno, inno + 1), f"{inno} rows in InnoDB, {isam} in MyISAM")
    verdict = copy.sql("CHECK TABLE ledger.isam, ledger.inno MEDIUM")
    check(verdict.count("OK") == 2 and "warning" not in verdict, f"a table is not clean: {verdict}")
    copy.stop()
    branch.detach()
    # What is held is let go when the agent dies in the middle.
    add_hook(hooks, "30-slow", f'[ "$1" = freeze ] || exit 0; touch {site.data}/held; sleep 8')
    asked = threading.Thread(target=lambda: site.cli_result("point", "create", site.machine()["id"], "--app", "--no-wait"))
    asked.start()
    wait_until(lambda: os.path.exists(f"{site.data}/held"), "the slow hook to begin", 60, 0.02)
    wait_until(lambda: "Waiting for" in database.sql("SHOW PROCESSLIST"), "the writer to wait for the lock", 8, 0.02)
    before = len(writer.committed)
    site.kill("agent")
    began = time.monotonic()
    wait_until(lambda: len(writer.committed) > before + 5, "MariaDB to be let go", 20, 0.02)
    note("let go after", round(time.monotonic() - began, 2), "s; held at", before)
    asked.join(60)
    os.unlink(os.path.join(hooks, "30-slow"))
    writer.finish()
    # Where one of two cannot be reached, the one that was held, and the other hooks, are let go at once.
    nobody = os.path.join(database.run_folder, "nobody")
    socket.socket(socket.AF_UNIX).bind(nobody)
    settings = os.path.join(os.path.dirname(hooks), "hooks.conf")
    with open(settings, "a") as f:
        f.write(f"MARIADB_SOCKETS='{database.socket} {nobody}'\n")
    add_hook(hooks, "10-first", f'date +%s.%N >>{site.data}/first-$1')
    try:
        site.wait_point_after(time.time())  # the agent is back
        site.create_point("--app")
        check(False, "half of what was to be held was app-consistent")
    except CliError as problem:
        check(nobody in problem.text, f"unclear: {problem.text}")
    began, ended = (float(open(f"{site.data}/first-{verb}").read().split()[-1]) for verb in ("freeze", "thaw"))
    check(ended - began < 5, f"held for {ended - began:.1f} s in vain")
    database.sql("INSERT INTO ledger.isam VALUES (0, 'writable')")
    with open(settings, "a") as f:
        f.write(f"MARIADB_SOCKETS={database.socket}\n")
    # A server that cannot be held makes no app-consistent point, and a clear word of why.
    blocker = Writer(database.session(), "LOCK TABLES isam WRITE; SELECT {n}; SELECT sleep(60);")
    wait_until(lambda: blocker.committed, "a table to be locked", 30)
    try:
        site.wait_point_after(time.time())  # the agent is back
        site.create_point("--app")
        check(False, "a locked table was app-consistent")
    except CliError as problem:
        check("20-mariadb" in problem.text and "ock wait timeout" in problem.text, f"unclear: {problem.text}")
    blocker.finish()
    database.stop()


if __name__ == "__main__":
    main()
