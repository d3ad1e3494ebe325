#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Promise P8 on real daemons: bytes that are no protocol, hand-shakes that stand still, messages that are no messages, from
strangers and from enrolled peers with good certificates. Nothing may crash, and points go on."""
import os
import random
import socket
import time

from grpc_client import channel_to, grpc, health
from harness import MIB, Disk, Site, check, main, note, test

METHODS = {
    1: ["/leeward.control.v1.Enrolment/Enrol", "/leeward.control.v1.Control/Session", "/leeward.control.v1.Control/Renew"],
    2: ["/leeward.replication.v1.Replication/Replicate"],
    3: ["/leeward.replication.v1.Replication/Replicate", "/leeward.vault.v1.Vault/ListPoints",
        "/leeward.vault.v1.Vault/ReadRange", "/leeward.vault.v1.Vault/Hashes", "/leeward.vault.v1.Vault/Damage", "/leeward.vault.v1.Vault/Mend"],
}
ROLES = {1: "hub", 2: "node", 3: "vault"}


def busy_site():
    disk = Disk(64 * MIB)
    disk.fill_random(200)
    site = Site()
    site.protect(disk)
    return site, disk


def pids(site):
    return {role: site.pid_of(role) for role in ("hub", "node", "vault", "agent")}


def still_whole(site, before):
    check(pids(site) == before, f"a daemon was restarted: {before} became {pids(site)}")
    site.wait_point_after(time.time())


def identity_of(site, role):
    if role == "hub":
        folder = os.path.join(site.data, "hub")
        return os.path.join(folder, "hub.pem"), os.path.join(folder, "hub.key")
    folder = os.path.join(site.data, role, "identity")
    return os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")


def ca_of(site):
    return os.path.join(site.data, "hub", "ca", "ca.pem")


@test
def bytes_that_are_no_protocol():
    site, _ = busy_site()
    before = pids(site)
    rng = random.Random(1)
    for offset in (1, 2, 3):
        for round_ in range(60):
            with socket.create_connection(("127.0.0.1", site.port_base + offset), timeout=10) as s:
                start = [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n"]
                try:
                    s.sendall(start[round_ % 4] + rng.randbytes(rng.randrange(5000)))
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except OSError:
                    pass  # closed on us: that is an answer
    still_whole(site, before)


@test
def hand_shakes_that_stand_still():
    site, _ = busy_site()
    before = pids(site)
    silent = []
    for offset in (1, 2, 3):
        for _ in range(150):
            silent.append(socket.create_connection(("127.0.0.1", site.port_base + offset), timeout=10))
    still_whole(site, before)
    for s in silent:
        s.settimeout(30)  # the daemons give up after ten seconds
        try:
            check(s.recv(1) == b"", "a daemon talked first")
        except ConnectionResetError:
            pass
        s.close()
    still_whole(site, before)


def try_messages(call, rng):
    """Whatever comes back is fine, as long as it is an answer within the deadline."""
    shapes = [b"", b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x03abc", bytes(rng.randrange(4000)), rng.randbytes(3000),
              b"\x0a\x16\x0a\x10" + rng.randbytes(16) + b"\x10\x01\x18\x01", b"\x12\x00" * 2000, b"\x12\x80\x80\x40" + rng.randbytes(MIB),
              rng.randbytes(5 * MIB)]
    codes = set()
    for n in (1, 3):
        for shape in shapes:
            try:
                for _ in call(iter([shape] * n), timeout=20):
                    break
                codes.add(grpc.StatusCode.OK)
            except grpc.RpcError as problem:
                codes.add(problem.code())
    return codes


@test
def messages_that_are_no_messages_from_every_role():
    site, _ = busy_site()
    before = pids(site)
    rng = random.Random(2)
    for offset, methods in METHODS.items():
        for role in ("agent", "node", "vault", "hub", None):
            certificate, key = identity_of(site, role) if role else (None, None)
            channel = channel_to(site.port_base + offset, f"{ROLES[offset]}.leeward.internal", ca_of(site), certificate, key)
            for method in methods:
                # A session or stream of the real peer's own identity would take its place: that is what it is for.
                if (role, method) in (("agent", METHODS[1][1]), ("node", METHODS[1][1]), ("vault", METHODS[1][1])):
                    continue
                codes = try_messages(channel.stream_stream(method), rng)
                note(role or "stranger", method, *sorted(c.name for c in codes))
                check(grpc.StatusCode.DEADLINE_EXCEEDED not in codes, f"{method} from {role}: silence ({codes})")
            channel.close()
    for offset, role in ROLES.items():
        channel = channel_to(site.port_base + offset, f"{role}.leeward.internal", ca_of(site), *identity_of(site, "hub"))
        check(health(channel) == 1, f"the {role} is not serving any more")
    still_whole(site, before)


if __name__ == "__main__":
    main()
