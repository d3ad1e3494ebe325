# SPDX-License-Identifier: Apache-2.0
"""Change sets made and sent by hand, for peers that do not keep to the protocol. Records are made from transport/log/FORMAT.md; hashes come from
the library of the machine."""
import ctypes
import ctypes.util
import os
import queue
import re
import struct

from grpc_client import grpc, message
from harness import Failure, check

HEADER, FIRST_RECORD = 64, 4096
DATA, ZERO, MARK, SEAL = 1, 2, 3, 4
REPLICATE = "/leeward.replication.v1.Replication/Replicate"


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


_xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash"))
_xxhash.XXH3_128bits.restype, _xxhash.XXH3_128bits.argtypes = _Hash128, [ctypes.c_char_p, ctypes.c_size_t]
_xxhash.XXH3_64bits.restype, _xxhash.XXH3_64bits.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]


def hash128(data):
    h = _xxhash.XXH3_128bits(data, len(data))
    return struct.pack(">QQ", h.high, h.low)


def record(kind, payload=b"", start=0, length=0, digest=None):
    header = struct.pack("<4sBBBBIIQQ16s12x", b"LWR1", kind, 0, 0, 0, 0, len(payload), start, length,
                         hash128(payload) if digest is None else digest)
    return header + struct.pack("<I", _xxhash.XXH3_64bits(header, len(header)) & 0xFFFFFFFF) + payload


def zero_record(start, length):
    return record(ZERO, start=start, length=length, digest=bytes(16))


def data_record(start, content):
    return record(DATA, content, start, len(content))


class Mark:
    """The mark of an empty change set; `like` is the payload of one that a real agent made."""
    FIELDS = {"kind": (2, "<B"), "flags": (3, "<B"), "sequence": (8, "<Q"), "generation": (16, "<Q"), "epoch": (24, "<Q"), "machine": (40, "16s"),
              "count": (72, "<Q"), "bytes": (80, "<Q"), "digest": (88, "16s")}

    def __init__(self, like):
        self.payload = bytearray(like)
        self.set(kind=0, flags=0, count=0, bytes=0, digest=hash128(b""))
        # No group, no tag: what stands behind the fixed part are the disks.
        tag, = struct.unpack_from("<H", like, 112)
        self.payload[56:72], self.payload[112:114] = bytes(16), bytes(2)
        del self.payload[120:120 + (tag + 7) // 8 * 8]

    def set(self, **fields):
        for name, value in fields.items():
            at, shape = self.FIELDS[name]
            struct.pack_into(shape, self.payload, at, value)
        return self

    def get(self, name):
        at, shape = self.FIELDS[name]
        return struct.unpack_from(shape, self.payload, at)[0]

    def record(self, **fields):
        changed = Mark(bytes(self.payload)).set(**fields)
        return record(MARK, bytes(changed.payload))


def sets_of(folder):
    """[(payload of the mark, bytes of all its records)] of the newest segment in a vault's folder of a machine, up to the last whole mark."""
    names = sorted(n for n in os.listdir(folder) if re.fullmatch(r"[0-9a-f]{16}\.seg", n))
    with open(os.path.join(folder, names[-1]), "rb") as f:
        data = f.read()
    found, begin, at = [], FIRST_RECORD, FIRST_RECORD
    while at + HEADER <= len(data) and data[at:at + 4] == b"LWR1":
        kind, stored = data[at + 4], struct.unpack_from("<I", data, at + 12)[0]
        end = at + HEADER + stored
        if end > len(data) or kind == SEAL:
            break
        if kind == MARK:
            found.append((data[at + HEADER:end], data[begin:end]))
            begin = end
        at = end
    check(found, f"no change set in {names[-1]}")
    return found


class Refusal:
    """How a stream ended: what its Refused message said, if there was one, and the status of the call."""

    def __init__(self, refused, problem):
        self.code = refused.code if refused else ""
        self.text = refused.text if refused else problem.details()
        self.correction = refused.correction if refused else ""
        self.expected = refused.expected_sequence if refused else 0
        self.status = problem.code().name
        self.details = problem.details()

    def __str__(self):
        return f"{self.status} {self.code!r}: {self.text} / {self.correction}"


class Stream:
    """One Replicate call."""

    def __init__(self, channel):
        self.request, reply = message("leeward.replication.v1.ReplicateRequest"), message("leeward.replication.v1.ReplicateReply")
        self.requests = queue.Queue()
        call = channel.stream_stream(REPLICATE, self.request.SerializeToString, reply.FromString)
        self.replies = call(iter(self.requests.get, None), timeout=90)

    def open(self, machine, generation, epoch, next_sequence=0):
        request = self.request()
        request.open.machine_id, request.open.generation, request.open.epoch = machine, generation, epoch
        request.open.next_sequence, request.open.software = next_sequence, "by hand"
        self.requests.put(request)
        return self

    def opened(self):
        """The answer to open, if that was Opened."""
        reply = next(self.replies)
        check(reply.WhichOneof("kind") == "opened", f"not opened: {reply}")
        return reply.opened

    def send(self, records):
        self.requests.put(self.request(batch=records))
        return self

    def committed(self, sequence):
        for reply in self.replies:
            if reply.committed.sequence >= sequence:
                return
        raise Failure(f"the stream ended before set {sequence} was committed")

    def refusal(self):
        """Waits for the end, which must be an error."""
        refused = None
        try:
            for reply in self.replies:
                refused = reply.refused if reply.WhichOneof("kind") == "refused" else refused
        except grpc.RpcError as problem:
            return Refusal(refused, problem)
        raise Failure("the stream ended well")

    def end(self):
        self.requests.put(None)
        self.replies.cancel()
