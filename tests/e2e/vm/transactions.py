# SPDX-License-Identifier: Apache-2.0
"""A ledger of transactions in a guest's PostgreSQL, kept by clients outside of it, and the judge of what a copy of that guest holds.

Each client books one amount after the other: a transaction adds it to the client's account and writes a line, or does neither. The client notes a line once
the database has said that it is committed, with the time that the guest's clock had when it was made. So of a copy these things are known:

- the lines of a client are 1, 2, 3, ... without a gap, and its account is their sum: whole transactions, in order;
- nothing that was committed before the copy's moment is missing. The next line of a client is begun after the one before was committed, so a line
  is due whose follower was made before that moment; both times are the guest's, and no other clock is compared with it.
"""
import contextlib
import subprocess
import threading
import time

from harness import check, defer, die_with_parent, run, undo, wait_until

PORT = 5432
CLIENTS = 4
PAUSE_S = 0.2  # between a client's transactions: an emulated guest has other work as well
TABLES = """CREATE TABLE account (client int PRIMARY KEY, total bigint NOT NULL);
            CREATE TABLE ledger (client int, n int, made timestamptz, note text, PRIMARY KEY (client, n));
            INSERT INTO account SELECT c, 0 FROM generate_series(1, {clients}) AS c"""
BOOK = """WITH booked AS (UPDATE account SET total = total + {n} WHERE client = {client})
          INSERT INTO ledger VALUES ({client}, {n}, clock_timestamp(), repeat(md5(random()::text), 12)) RETURNING extract(epoch FROM made)"""
HELD = """SELECT a.client, a.total, count(l.n), coalesce(max(l.n), 0), coalesce(sum(l.n), 0)
          FROM account a LEFT JOIN ledger l USING (client) GROUP BY a.client, a.total ORDER BY a.client"""


class Database:
    """How a guest's PostgreSQL is reached: an address, and what a command is put behind (nsenter, for a network of its own)."""

    def __init__(self, host, port=PORT, within=()):
        self.command = [*(str(word) for word in within), "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d",
                        f"host={host} port={port} user=postgres dbname=postgres connect_timeout=20"]

    def sql(self, text, timeout=120):
        return run(*self.command, "-c", text, timeout=timeout).strip()

    def wait(self, timeout=900):
        wait_until(lambda: self.sql("SELECT 1", 30) == "1", "the database to answer", timeout, 0.3)


class Client(threading.Thread):
    """One session of psql, which gets a transaction when the one before has been answered. Ends with its connection."""

    def __init__(self, database, number, lines):
        super().__init__(daemon=True)
        self.number, self.lines = number, lines
        self.process = subprocess.Popen(database.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        preexec_fn=die_with_parent)
        self.start()

    def run(self):
        try:
            while True:
                self.process.stdin.write(" ".join(BOOK.format(client=self.number, n=len(self.lines) + 1).split()) + ";\n")
                self.process.stdin.flush()
                answer = self.process.stdout.readline()
                if not answer.strip():
                    return
                self.lines.append(float(answer))
                time.sleep(PAUSE_S)
        except (OSError, ValueError):
            return  # it was stopped

    def end(self):
        self.process.kill()
        self.process.wait()
        self.join()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what was under way is told to nobody
                pipe.close()


class Transactions:
    def __init__(self, database):
        """Makes the tables, and begins."""
        database.sql(TABLES.format(clients=CLIENTS))
        self.lines = {}  # of each client what is known to be committed: when line n was made, at n - 1
        self.clients = []
        self.begin(database)

    def begin(self, database):
        """Goes on where this copy is: what it holds is what happened. Other copies are judged before."""
        self.lines = {number: [] for number in range(1, CLIENTS + 1)}
        for row in database.sql("SELECT client, extract(epoch FROM made) FROM ledger ORDER BY client, n").splitlines():
            number, made = row.split("|")
            self.lines[int(number)].append(float(made))
        self.undoing = defer(self._end)
        self.clients = [Client(database, number, lines) for number, lines in self.lines.items()]

    def _end(self):
        for client in self.clients:
            client.end()
        self.clients = []

    def end(self):
        """Whatever was under way is not known to be committed, and may be."""
        undo(self.undoing)

    def count(self):
        return sum(len(lines) for lines in self.lines.values())

    def wait_more(self, count=10, timeout=600):
        """Each client has booked that many more."""
        wanted = {number: len(lines) + count for number, lines in self.lines.items()}

        def booked():
            if not all(client.is_alive() for client in self.clients) or not self.clients:
                raise AssertionError("the clients lost their database, or were not begun")
            return all(len(self.lines[number]) >= n for number, n in wanted.items())
        wait_until(booked, "transactions", timeout, 0.2)

    def newest(self):
        """When the last of all was made."""
        return max(made for lines in self.lines.values() for made in lines)

    def _due(self, number, moment):
        return sum(made <= moment for made in self.lines[number][1:])

    def judge(self, database, moment=None):
        """Holds what is there to the ledger: all of it, or all that was committed before the moment in the guest's time. How many lines are lost."""
        lost = 0
        rows = database.sql(HELD).splitlines()
        check(len(rows) == CLIENTS, f"accounts: {rows}")
        for row in rows:
            number, total, count, last, amount = (int(word) for word in row.split("|"))
            known = len(self.lines[number])
            due = known if moment is None else self._due(number, moment)
            check(count == last and total == amount, f"client {number}: {count} lines up to {last}, with {amount}; its account has {total}")
            check(last >= due, f"client {number}: line {last} is the last, {due} were committed before" + ("" if moment is None else f" {moment:.3f}"))
            check(moment is not None or last <= known + 1, f"client {number}: {last} lines, and only {known} were booked")
            lost += max(0, known - last)
        return lost
