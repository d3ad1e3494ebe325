#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A stock gRPC client against the rpc layer's test methods, and against a real vault."""
import os
import subprocess
import time

from grpc_client import channel_to, failure, grpc, health, message, read
from harness import BIN, MIB, Disk, Site, check, defer, main, test, undo


# ---- the rpc layer ----

def test_server():
    program = os.path.join(os.path.dirname(BIN), "tests", "rpc_stock_server")
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end():
        process.stdin.close()
        process.wait(20)
    ending = defer(end)
    port, folder = process.stdout.readline().split()
    file = lambda name: os.path.join(folder, name)
    channel = channel_to(port, "node.leeward.internal", file("ca.pem"), file("client.cert.pem"), file("client.key.pem"))
    return channel, ending


@test
def unary_streams_and_large_messages():
    channel, ending = test_server()
    check(channel.unary_unary("/test.T/Echo")(b"hello", timeout=20) == b"hello", "unary echo")
    check(channel.unary_unary("/test.T/Echo")(b"", timeout=20) == b"", "empty message")
    large = os.urandom(4 * MIB)
    check(channel.unary_unary("/test.T/Echo")(large, timeout=60) == large, "4 MiB there and back")
    sent = [bytes([i]) * (i * 1000) for i in range(100)]
    got = list(channel.stream_stream("/test.T/Echo")(iter(sent), timeout=60))
    check(got == sent, "a hundred messages both ways")
    flood = list(channel.unary_stream("/test.T/Flood")(b"go", timeout=60))
    check(len(flood) == 64 and all(m == b"f" * MIB for m in flood), "64 MiB from the server")
    calls = [channel.unary_unary("/test.T/Echo").future(str(i).encode(), timeout=60) for i in range(500)]
    check([c.result() for c in calls] == [str(i).encode() for i in range(500)], "500 calls at once")
    undo(ending)


@test
def statuses_and_texts_arrive():
    channel, ending = test_server()
    problem = failure(lambda: channel.unary_unary("/test.T/Nothing")(b"", timeout=20))
    check(problem.code() == grpc.StatusCode.UNIMPLEMENTED, problem)
    problem = failure(lambda: channel.unary_unary("/test.T/Early")(b"x", timeout=20))
    check(problem.code() == grpc.StatusCode.NOT_FOUND and problem.details() == "100% nicht gef\u00fcndig\n", problem)
    problem = failure(lambda: channel.unary_unary("/test.T/Fail")(b"x", timeout=20))
    check(problem.code() == grpc.StatusCode.FAILED_PRECONDITION, problem)
    check(problem.details() == "stale generation 3; open again with generation 4", problem)
    problem = failure(lambda: channel.unary_unary("/test.T/Echo")(bytes(5 * MIB), timeout=20))
    check(problem.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, problem)
    undo(ending)


@test
def deadlines_and_cancellation():
    channel, ending = test_server()
    begun = time.monotonic()
    problem = failure(lambda: channel.unary_unary("/test.T/Hang")(b"x", timeout=0.5))
    check(problem.code() == grpc.StatusCode.DEADLINE_EXCEEDED, problem)
    check(time.monotonic() - begun < 60, "the deadline was late")  # nobody else would end the call
    call = channel.unary_unary("/test.T/Hang").future(b"x", timeout=60)
    call.cancel()
    check(call.cancelled(), "a call could not be cancelled")
    check(channel.unary_unary("/test.T/Echo")(b"still here", timeout=20) == b"still here", "after that")
    undo(ending)


@test
def compression_is_refused_by_name():
    channel, ending = test_server()
    problem = failure(lambda: channel.unary_unary("/test.T/Echo")(b"z" * 10000, timeout=20, compression=grpc.Compression.Gzip))
    check(problem.code() == grpc.StatusCode.UNIMPLEMENTED and "identity" in problem.details(), problem)
    undo(ending)


@test
def health_is_standard():
    channel, ending = test_server()
    check(health(channel) == 1, "not serving")
    problem = failure(lambda: health(channel, "no.Such"))
    check(problem.code() == grpc.StatusCode.NOT_FOUND, problem)
    undo(ending)


# ---- a real vault ----

def vault_channel(site):
    hub = os.path.join(site.data, "hub")
    return channel_to(site.port_base + 3, "vault.leeward.internal", os.path.join(hub, "ca", "ca.pem"),
                      os.path.join(hub, "hub.pem"), os.path.join(hub, "hub.key"))


def machine_bytes(site):
    return bytes.fromhex(site.machine()["id"].replace("-", ""))


@test
def vault_lists_points_and_reads_ranges():
    disk = Disk(64 * MIB)
    disk.fill_random(500)
    site = Site()
    site.protect(disk)
    point = site.settled_point()
    channel = vault_channel(site)
    check(health(channel) == 1, "the vault is not serving")
    listing, found = message("leeward.vault.v1.ListPointsRequest"), message("leeward.vault.v1.Point")
    list_points = channel.unary_stream("/leeward.vault.v1.Vault/ListPoints", listing.SerializeToString, found.FromString)
    points = list(list_points(listing(machine_id=machine_bytes(site)), timeout=60))
    check(int(point["sequence"]) in [p.sequence for p in points], "the API's point is not in the vault's list")
    shown = next(p for p in points if p.sequence == int(point["sequence"]))
    check(shown.disks[0].size_bytes == disk.size_bytes, f"the disk has {shown.disks[0].size_bytes} bytes")

    asking, chunk = message("leeward.vault.v1.ReadRangeRequest"), message("leeward.vault.v1.RangeChunk")
    read_range = channel.unary_stream("/leeward.vault.v1.Vault/ReadRange", asking.SerializeToString, chunk.FromString)
    image = bytearray()
    for piece in read_range(asking(machine_id=machine_bytes(site), sequence=shown.sequence, disk=shown.disks[0].number,
                                   start=0, length=disk.size_bytes), timeout=120):
        check(piece.start == len(image), f"a piece at {piece.start} after {len(image)} bytes")
        image += piece.data
    check(bytes(image) == read(disk.device), "the range is not what the disk holds")

    problem = failure(lambda: list(list_points(listing(machine_id=b"short"), timeout=20)))
    check(problem.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND) and problem.details(), problem)
    problem = failure(lambda: list(read_range(asking(machine_id=machine_bytes(site), disk=999, length=4096), timeout=20)))
    check(problem.details(), problem)


@test
def every_daemon_answers_health_and_nobody_serves_strangers():
    site = Site()
    hub = os.path.join(site.data, "hub")
    ca = os.path.join(hub, "ca", "ca.pem")
    for offset, role in ((1, "hub"), (2, "node"), (3, "vault")):
        channel = channel_to(site.port_base + offset, f"{role}.leeward.internal", ca, os.path.join(hub, "hub.pem"),
                             os.path.join(hub, "hub.key"))
        check(health(channel, wait_for_ready=True) == 1, f"the {role} is not serving")
    stranger = channel_to(site.port_base + 3, "vault.leeward.internal", ca)
    listing = message("leeward.vault.v1.ListPointsRequest")
    call = stranger.unary_stream("/leeward.vault.v1.Vault/ListPoints", listing.SerializeToString)
    problem = failure(lambda: list(call(listing(machine_id=bytes(16)), timeout=20)))
    check(problem.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED), problem)


if __name__ == "__main__":
    main()
