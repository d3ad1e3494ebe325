#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Peers with good certificates that do not keep to the protocol, and one whose clock is wrong. Two nodes claim one machine; sets come twice, out
of order, for another epoch, generation or machine, or are not what their marks say. Each is refused with a code and a text that says why; after each
the log verifies, the newest point is the disk, nothing was compared anew, and replication goes on by itself."""
import contextlib
import os
import re
import signal

from change_sets import SEAL, Mark, Stream, data_record, hash128, record, sets_of, zero_record
from clock import Clock
from grpc_client import channel_to
from harness import MIB, Disk, Site, check, defer, main, note, run, same_after_all, test, undo, wait_until
from node_site import Node, lines_of

YEAR = 365 * 86400


class Protected:
    """A site with a protected disk, its vault's folder of the machine, and connections in the name of a node or the agent."""

    def __init__(self, **options):
        self.disk = Disk(48 * MIB)
        self.disk.fill_random(300)
        self.site = Site(**options)
        self.site.protect(self.disk)
        self.seed = 1
        self.machine = bytes.fromhex(self.site.machine()["id"].replace("-", ""))

    def channel(self, offset, role, identity):
        ca = os.path.join(self.site.data, "hub", "ca", "ca.pem")
        return channel_to(self.site.port_base + offset, f"{role}.leeward.internal", ca, os.path.join(identity, "cert.pem"),
                          os.path.join(identity, "key.pem"))

    def identity(self, role):
        return os.path.join(self.site.data, role, "identity")

    def last_set(self):
        """The mark and the bytes of the last set that the vault has committed."""
        return sets_of(os.path.join(self.site.data, "vault", "machines", self.site.machine()["id"], "main"))[-1]

    @contextlib.contextmanager
    def held(self, role):
        """That daemon stands still meanwhile, so that it does not come in between."""
        pid = self.site.pid_of(role)
        os.kill(pid, signal.SIGSTOP)
        resume = defer(os.kill, pid, signal.SIGCONT)
        try:
            yield
        finally:
            undo(resume)

    def judge(self, may_compare=False):
        """More is written, and all is well. may_compare: somebody else may have written to the copy."""
        self.seed += 1
        self.disk.fill_random(200, seed=self.seed)
        same_after_all(self.site, self.disk)
        verified = self.site.cli("vault", "verify")
        check(verified["status"] == "succeeded" and verified["result"]["damage_count"] == 0, f"the log is damaged: {verified}")
        events = [e for e in self.site.items("event", "list", "--limit", "300")]
        check(may_compare or not [e for e in events if e["code"] == "resync_started"], "the disk was compared")
        check(self.site.machine()["state"] == "protected", f"the machine is {self.site.machine()['state']}")


def expect(what, refusal, status, code, *words):
    note(f"{what}: {refusal}")
    check(refusal.status == status, f"{what} ended with {refusal.status} instead of {status}: {refusal}")
    check(refusal.code == code, f"{what} is called {refusal.code!r} instead of {code!r}: {refusal}")
    for word in words:
        check(word in refusal.text or word in refusal.correction, f"{what} does not say {word!r}: {refusal}")
    return refusal


def bad_sets(mark, n):
    """What neither a node nor a vault may take where set n is expected: (what, records, status, code, words)."""
    late, early = mark.record(sequence=n + 3), mark.record(sequence=n - 1)
    one = zero_record(0, 4096)
    closed = {"sequence": n, "count": 1, "bytes": 4096}
    return [
        ("a set that skips some", late, "FAILED_PRECONDITION", "refused", f"change set {n + 3} came where {n}"),
        ("a set that was there already", early, "FAILED_PRECONDITION", "refused", f"change set {n - 1} came where {n}"),
        ("a set without one of its records", mark.record(sequence=n, count=1, bytes=4096), "DATA_LOSS", "corrupt", "is not what its mark says"),
        ("a set whose digest is another one", one + mark.record(**closed), "DATA_LOSS", "corrupt", "is not what its mark says"),
        ("a set of another epoch", mark.record(sequence=n, epoch=mark.get("epoch") + 1), "FAILED_PRECONDITION", "refused", "epoch"),
        ("a set of another generation", mark.record(sequence=n, generation=mark.get("generation") + 1), "FAILED_PRECONDITION", "refused", "generation"),
        ("a mark of a later version", mark.record(sequence=n, flags=128), "UNIMPLEMENTED", "unsupported", "in the order vault, node, agent"),
        ("a seal", record(SEAL, bytes(32)), None, None, "seal"),
        ("half a record", one[:40], None, None, ""),
        ("a record with a damaged header", one[:20] + bytes(1) + one[21:62] + b"\xff\xff", None, None, ""),
    ]


def try_bad_sets(open_stream, mark, n, moved=lambda: False):
    for what, records, status, code, *words in bad_sets(mark, n):
        refusal = open_stream().send(records).refusal()
        if status:
            expect(what, refusal, status, code, *words)
        else:
            expect(what, refusal, refusal.status, refusal.code, *words)
            check(refusal.status in ("DATA_LOSS", "INVALID_ARGUMENT") and refusal.text, f"{what}: {refusal}")
        if code == "refused":
            check(refusal.expected == n, f"{what}: told to go on at {refusal.expected} instead of {n}")


@test
def of_two_nodes_with_one_machine_the_vault_keeps_one_and_tells_the_other():
    p = Protected()
    other = Node(p.site, "other")
    channel = p.channel(3, "vault", os.path.join(other.data, "identity"))

    def learn():
        stream = Stream(channel).open(p.machine, generation, 0)
        answer = stream.opened()
        stream.end()
        return answer
    last, replay = p.last_set()
    generation = Mark(last).get("generation")
    with p.held("node"):
        # Whatever of the machine was on its way is committed when the vault says the same twice.
        known = wait_until(lambda: (lambda a, b: a if a.committed_sequence == b.committed_sequence else None)(learn(), learn()),
                           "the vault to have what was on its way", 30)
        last, replay = p.last_set()
        mark = Mark(last)
        epoch, n = known.epoch, known.expected_sequence
        check(mark.get("sequence") == n - 1 and mark.get("epoch") == epoch, f"the log ends at {mark.get('sequence')}, expected is {n}")

        def again():
            stream = Stream(channel).open(p.machine, generation, epoch)
            check(stream.opened().expected_sequence == n, "something was committed")
            return stream
        first, second = again(), again()
        expect("the older of two streams", first.refusal(), "FAILED_PRECONDITION", "refused", "a newer stream of this machine was opened")
        expect("a set that is sent twice", second.send(replay).refusal(), "FAILED_PRECONDITION", "refused", f"change set {n - 1} came where {n}")
        try_bad_sets(again, mark, n)
        expect("a record that nobody sealed", again().send(data_record(0, bytes([7]) * 4096)).refusal(), "INVALID_ARGUMENT", "invalid", "without encryption")
        expect("a batch before Open", Stream(channel).send(replay).refusal(), "INVALID_ARGUMENT", "invalid", "before the stream was opened")
        expect("a mark of another machine", again().send(mark.record(sequence=n, machine=bytes(range(16)))).refusal(), "DATA_LOSS", "corrupt",
               "another machine's")
        expect("a machine that the vault does not have", Stream(channel).open(bytes(range(16)), generation, epoch).refusal(), "UNAVAILABLE", "unavailable",
               "the hub has not given this machine to this vault")
        expect("an earlier generation", Stream(channel).open(p.machine, generation - 1, epoch).refusal(), "FAILED_PRECONDITION", "refused",
               f"generation {generation - 1} is over")
        expect("a stream in the name of an agent", Stream(p.channel(3, "vault", p.identity("agent"))).open(p.machine, generation, epoch).refusal(),
               "PERMISSION_DENIED", "", "only process nodes may replicate")
        again()  # and this one has the machine when the real node wakes up
    wait_until(lambda: any("newer stream" in str(l) for l in log_lines(p.site, "vault_lost")), "the node to hear of the other one", 60)
    p.judge()

    # A node that claims the machine with a higher epoch, and commits something: whatever it was, the agent's next points are the disk.
    raised = len(lines_of(p.site.log, "epoch_raised"))
    claimed = Stream(channel).open(p.machine, generation, epoch + 1)
    answer = claimed.opened()
    mark.set(epoch=epoch + 1)
    claimed.send(mark.record(sequence=answer.expected_sequence))
    with contextlib.suppress(Exception):  # the machine's own node may be back already, in a higher epoch
        claimed.committed(answer.expected_sequence)
    wait_until(lambda: len(lines_of(p.site.log, "epoch_raised")) > raised, "the agent to open a higher epoch", 60)
    expect("the stream of the lower epoch", claimed.refusal(), "FAILED_PRECONDITION", "refused", "a newer stream of this machine was opened")
    expect("an earlier epoch", Stream(channel).open(p.machine, generation, epoch).refusal(), "FAILED_PRECONDITION", "refused", f"epoch {epoch} is over")
    p.judge(may_compare=True)


def log_lines(site, event):
    with open(site.log, errors="replace") as f:
        return [line for line in f if f" {event} " in line]


@test
def an_agent_that_sends_what_it_should_not_is_refused_by_its_node():
    p = Protected()
    channel = p.channel(2, "node", p.identity("agent"))
    epochs = len(lines_of(p.site.log, "epoch_raised"))
    with p.held("agent"):
        asking = Stream(channel).open(p.machine, 1, 0)
        known = asking.opened()
        asking.end()
        mark = Mark(p.last_set()[0])
        mark.set(epoch=known.epoch)
        generation = mark.get("generation")
        expected = set()

        def again():
            stream = Stream(channel).open(p.machine, generation, known.epoch)
            expected.add(stream.opened().expected_sequence)
            return stream
        first = again()
        again()
        expect("the older of two streams", first.refusal(), "CANCELLED", "", "the agent opened a newer stream")
        n, = expected
        try_bad_sets(again, mark, n)
        check(expected == {n}, f"a refused set counted: {expected}")
        expect("a mark of another machine", again().send(mark.record(sequence=n, machine=bytes(range(16)))).refusal(), "PERMISSION_DENIED", "denied",
               "a mark of another machine", "data folder was not copied")
        expect("a block that is not what its hash says", again().send(record(1, bytes(4096), 0, 4096, hash128(b"x"))).refusal(), "DATA_LOSS", "corrupt")
        expect("another machine than the certificate's", Stream(channel).open(bytes(range(16)), generation, known.epoch).refusal(),
               "PERMISSION_DENIED", "", "the certificate belongs to another machine", "do not copy an agent's data folder")
        expect("an earlier generation", Stream(channel).open(p.machine, generation - 1, known.epoch).refusal(), "FAILED_PRECONDITION", "",
               f"generation {generation - 1} is over")
        expect("a batch before Open", Stream(channel).send(mark.record(sequence=n)).refusal(), "FAILED_PRECONDITION", "", "before the stream was open")
        expect("a stream in the name of a vault", Stream(p.channel(2, "node", p.identity("vault"))).open(p.machine, generation, known.epoch).refusal(),
               "PERMISSION_DENIED", "", "only agents replicate to a node")
    p.judge()
    check(len(lines_of(p.site.log, "epoch_raised")) <= epochs + 1, "the agent began anew more than once")


def told(site, daemon, *words):
    """A line of the log in which that daemon says it."""
    with open(site.log, errors="replace") as f:
        return next((line.strip() for line in f if f"leeward-{daemon}" in line and all(w in line for w in words)), None)


def restart_node(site):
    node = site.kill("node")
    wait_until(lambda: site.pid_of("node") != node, "the node to be started again", 60)


def node_sessions(site):
    return sum(line.get("role") == "node" for line in lines_of(site.log, "session_up"))


@test
def a_node_with_a_wrong_clock_is_told_so_and_goes_on_when_it_is_set():
    clock = Clock()
    p = Protected(daemon_starters={"node": clock.starter})
    sessions = node_sessions(p.site)
    for offset, words in ((-40, "s slow"), (40, "s fast")):
        clock.set(offset)
        shown = wait_until(lambda: (n := p.site.items("node", "list")[0])["cause_code"] == "clock_skew" and words in n["cause"] and n,
                           "the node's clock to be told while its session goes on", 90)
        note(shown["cause"])
        check(abs(int(re.search(r"is (\d+) s", shown["cause"])[1]) - 40) <= 30, f"off by 40 s, told: {shown['cause']}")
        clock.set(0)
        wait_until(lambda: p.site.items("node", "list")[0]["cause_code"] != "clock_skew", "the clock to be good again", 90)
    check(node_sessions(p.site) == sessions, "a session began anew")
    for offset, own, others in ((4 * YEAR, "our own has expired too by this machine's clock", "one of the two clocks is wrong"),
                                (-3 * YEAR, "so this machine's clock is wrong", "the peer's, which may be behind")):
        clock.set(offset)
        restart_node(p.site)
        note(wait_until(lambda: told(p.site, "node", own), "the node to doubt its clock", 60))
        note(wait_until(lambda: told(p.site, "hub", others), "the hub to say whose clock is wrong", 60))
        note(wait_until(lambda: told(p.site, "agent", others), "the agent to say it too", 60))
        clock.set(0)
        p.judge()


if __name__ == "__main__":
    main()
