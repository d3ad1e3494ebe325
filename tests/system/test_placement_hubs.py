#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two hubs on one database place machines: a node that is lost is left once by each of its machines, whichever hub looks; when one hub is killed
in the middle of a look, with the sessions of everybody, no machine moves for that, and the other hub takes over what is left to do."""
import signal

from harness import check, defer, main, note, test, wait_until
from hub_pair import Pair
from node_site import lines_of


class Placed:
    def __init__(self):
        self.pair = Pair(nodes=3, agents=3)
        self.database = self.pair.database
        self.api = self.pair.first
        # As if both had been looking for long: before that nobody believes that a node is gone.
        self.database.sql("UPDATE placement_watch SET since = now() - interval '1 hour'")

    def where(self):
        """Machine -> node, by name."""
        return {m["name"]: m["node_name"] for m in self.api.done("GET", "/machines")["items"]}

    def moves(self):
        """Machine -> moves that the placement asked for, whatever became of them."""
        rows = self.database.sql("SELECT m.name, count(*) FROM jobs j JOIN machines m ON m.id = j.machine_id WHERE j.kind = 'machine_move' GROUP BY 1")
        return {name: int(count) for name, count in (row.split("|") for row in rows.splitlines())}

    def pending(self):
        return int(self.database.sql("SELECT count(*) FROM jobs WHERE kind = 'machine_move' AND status NOT IN ('succeeded', 'failed', 'cancelled')"))

    def looks(self, count):
        """Waits until hubs have looked so often from now on."""
        for _ in range(count):
            seen = self.database.sql("SELECT seen_at FROM placement_watch")
            wait_until(lambda: self.database.sql("SELECT seen_at FROM placement_watch") != seen, "a hub to look", 60, 0.2)

    def hub_of_all(self):
        """The process that has the sessions of all nodes that are alive."""
        return self.database.sql(f"SELECT DISTINCT session_hub FROM nodes WHERE {self.is_alive()}")

    def with_another(self, hub):
        """How many of them have their session with another hub."""
        return int(self.database.sql(f"SELECT count(*) FROM nodes WHERE {self.is_alive()} AND online AND session_hub <> '{hub}'"))

    def is_alive(self):
        return "name IN (" + ", ".join(f"'{name}'" for name in self.pair.nodes) + ")"

    def made_by(self, hub):
        return len(lines_of(hub.log, "machine_moves"))

    def lose(self, name):
        """Kills a node and waits until its machines are elsewhere; which ones they were."""
        held = {m for m, n in self.where().items() if n == name}
        node = self.pair.nodes.pop(name)
        node.send_signal(signal.SIGKILL)
        node.wait()
        wait_until(lambda: not [m for m, n in self.where().items() if n == name] and self.pending() == 0, f"{name} to be left", 120)
        return held

    def kill_in_the_middle_of_a_look(self):
        """The first hub, which has the sessions of all peers. The other one stands still until it is over."""
        two = self.pair.two.process
        defer(lambda: two.poll() is None and two.send_signal(signal.SIGCONT))

        def stopped_between_looks():
            two.send_signal(signal.SIGSTOP)
            if self.database.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 5333276") == "0":
                return True
            two.send_signal(signal.SIGCONT)  # either may have been looking
            return False
        wait_until(stopped_between_looks, "a moment in which no hub looks", 60, 0.3)
        self.database.sql("""
            CREATE FUNCTION hold_still() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(300); RETURN NEW; END $$;
            CREATE TRIGGER hold_still BEFORE UPDATE ON placement_watch FOR EACH ROW EXECUTE FUNCTION hold_still()""")
        backend = wait_until(lambda: self.database.sql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"),
                             "the first hub to be in the middle of a look", 60)
        self.pair.one.kill()
        self.database.sql(f"SELECT pg_terminate_backend({backend}, 30000); DROP TRIGGER hold_still ON placement_watch")
        two.send_signal(signal.SIGCONT)

    def judge(self, expected, why):
        """That many moves of each machine, now and after some more looks, and all of them replicate."""
        self.looks(3)
        check(self.moves() == expected, f"{why}: moves {self.moves()}, not {expected}")
        alive = set(self.pair.nodes)
        check(set(self.where().values()) <= alive, f"{why}: {self.where()}, but only {alive} are alive")
        failed = self.database.sql("SELECT count(*) FROM jobs WHERE kind = 'machine_move' AND status <> 'succeeded'")
        check(failed == "0", f"{why}: {failed} moves did not succeed")


@test
def each_machine_of_a_lost_node_moves_once_whichever_hub_looks_and_dies():
    p = Placed()
    pair, expected = p.pair, {}
    note(f"placed: {p.where()}")
    p.judge(expected, "before anything is lost")
    held = p.lose(p.where()["source"])
    expected.update({m: 1 for m in held})
    p.judge(expected, "one node lost, two hubs")
    note(f"{p.made_by(pair.one)} moves by the first hub, {p.made_by(pair.two)} by the second")

    first = p.hub_of_all()
    check(first and "\n" not in first, f"not all nodes have their session with one hub: {first.split()}")
    p.kill_in_the_middle_of_a_look()
    p.api = pair.second
    # Not what is called online: that a hub was killed is seen a minute later.
    wait_until(lambda: p.with_another(first) == len(pair.nodes), "the nodes to come to the other hub", 90)
    p.judge(expected, "a hub lost, and no node")
    held = p.lose(p.where()["source"])
    for machine in held:
        expected[machine] = expected.get(machine, 0) + 1
    p.judge(expected, "a node lost, one hub left")
    for name in pair.agents:
        point = p.api.done("POST", f"/machines/{name}/points", {"tag": "after"}, Idempotency_Key=f"after-{name}")
        pair.wait_for(p.api, point)
    note(f"moves of each machine: {expected}; {p.made_by(pair.two)} asked for by the second hub")


if __name__ == "__main__":
    main()
