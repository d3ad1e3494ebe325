# SPDX-License-Identifier: Apache-2.0
"""An independent reader of a vault: opens a recovery point from vault.key, a machine's meta, its keys if it has had several, and its main/*.seg, and from nothing
else. Made from transport/log/FORMAT.md and transport/vault/FORMAT.md alone: no code of the project, no index, no point list. It
checks whatever can be checked and raises Refused at the first thing that is not as the two documents say.

    vault_reader.py DATA MACHINE-UUID SEQUENCE DISK RAW-IMAGE
"""
import collections
import os
import re
import struct
import sys
import uuid

import xxhash
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA, ZERO, MARK, SEAL = 1, 2, 3, 4
HEADER, FIRST_RECORD, BLOCK, TAG = 64, 4096, 65536, 16
MARK_FIRST = 2
PROGRESS = 0


class Refused(Exception):
    """What the files say is not what the format allows."""


def require(condition, *words):
    if not condition:
        raise Refused(" ".join(map(str, words)))


def hash128(data):
    return xxhash.xxh3_128_digest(data)


def check32(data):
    return xxhash.xxh3_64_intdigest(data) & 0xFFFFFFFF


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


def zeros(data):
    return not any(data)


def pad8(n):
    return (n + 7) // 8 * 8


# ---- keys ----

def vault_key(path):
    text = read_file(path)
    require(re.fullmatch(rb"[0-9a-fA-F]{64}\n", text), path, "is not a vault key")
    return bytes.fromhex(text.decode())


class Meta:
    """meta: what is known of the machine, and its data key once it is unwrapped."""

    def __init__(self, path, machine, wrapping_key):
        data = read_file(path)
        require(len(data) == 128 and data[:8] in (b"LWMET\0\0\1", b"LWMET\0\0\2"), path, "is not a meta of version 1 or 2")
        require(hash128(data[:112]) == data[112:], path, "is damaged")
        require(data[8:24] == machine, path, "belongs to another machine")
        self.generation, self.epoch, self.created, self.next_stream = struct.unpack_from("<QQQI", data, 24)
        try:
            newest = AESGCM(wrapping_key).decrypt(data[52:64], data[64:112], machine)
        except InvalidTag:
            raise Refused("the vault key does not fit this machine's data key") from None
        self.keys = [(0, AESGCM(newest))]  # newest first: covers the streams from the number on
        if data[7] == 2:
            self.keys = older_keys(os.path.join(os.path.dirname(path), "keys"), machine, newest)

    def opener(self, stream):
        return next(key for first, key in self.keys if stream >= first)


def older_keys(path, machine, newest):
    """keys: each older data key, wrapped by the one behind it. What stands behind the one that `newest` opens does not count."""
    data = read_file(path)
    require(data[:8] == b"LWKEY\0\0\1" and hash128(data[:-16]) == data[-16:], path, "is damaged")
    count, = struct.unpack_from("<I", data, 24)
    require(data[8:24] == machine and zeros(data[28:32]) and 1 <= count <= 63 and len(data) == 48 + 64 * count, path,
            "makes no sense")
    found, key, until = [], newest, None
    for at in range(32 + 64 * (count - 1), 31, -64):
        try:
            older = AESGCM(key).decrypt(data[at + 4:at + 16], data[at + 16:at + 64], machine)
        except InvalidTag:
            require(not found, path, "has a key that the one behind it does not open")
            continue
        first, = struct.unpack_from("<I", data, at)
        require(first > 0 and (until is None or first <= until), path, "has streams out of order")
        found.append((first, AESGCM(key)))
        key, until = older, first
    require(found, path, "does not belong to the data key of meta")
    return found + [(0, AESGCM(key))]


# ---- records ----

Record = collections.namedtuple("Record", "at kind codec cipher disk start length hash nonce stream counter header payload")


class Torn(Exception):
    """A record that is not whole or not good: the end of a segment that has no seal, or damage."""

    def __init__(self, text, is_seal=False):
        super().__init__(text)
        self.is_seal = is_seal


def record_at(data, at):
    header = data[at:at + HEADER]
    if len(header) < HEADER:
        raise Torn(f"half a header at {at}")
    magic, kind, codec, cipher, flags, disk, stored, start, length = struct.unpack_from("<4sBBBBIIQQ", header)
    digest = header[32:48]
    stream, counter, check = struct.unpack_from("<IQI", header, 48)
    if check != check32(header[:60]) or magic[:3] != b"LWR":
        raise Torn(f"the header at {at} is damaged")
    require(magic == b"LWR1", "record of another version at", at)
    require(kind in (DATA, ZERO, MARK, SEAL) and codec in (0, 1) and cipher in (0, 1) and flags == 0,
            "unknown kind, codec, cipher or flag at", at)
    r = Record(at, kind, codec, cipher, disk, start, length, digest, header[48:60], stream, counter, header,
               data[at + HEADER:at + HEADER + stored])
    check_shape(r, stored)
    if len(r.payload) < stored:
        raise Torn(f"half a payload at {at}")
    return r


def check_shape(r, stored):
    """What a header may say at all, before its lengths are used."""
    if r.kind in (MARK, SEAL):
        require((r.disk, r.start, r.length, r.codec, r.cipher) == (0, 0, 0, 0, 0), "mark or seal with a place at", r.at)
        require(zeros(r.nonce) and stored <= 16384, "mark or seal with a nonce, or too long, at", r.at)
        return
    require(r.disk <= 1023 and r.start % 512 == 0 and r.length % 512 == 0 and r.length > 0, "place at", r.at)
    require(r.start + r.length <= 1 << 62, "range at", r.at)
    if r.kind == ZERO:
        require((stored, r.codec, r.cipher) == (0, 0, 0) and zeros(r.nonce), "zero record with a payload at", r.at)
        require(zeros(r.hash) or r.length <= BLOCK and r.hash == hash128(bytes(r.length)), "hash of zeros at", r.at)
        return
    require(r.length <= BLOCK and r.start // BLOCK == (r.start + r.length - 1) // BLOCK, "data crosses a block at", r.at)
    bare = stored - (TAG if r.cipher else 0)
    require(bare == r.length if r.codec == 0 else 1 <= bare < r.length, "payload length at", r.at)
    require((r.stream > 0 and r.counter > 0) if r.cipher else zeros(r.nonce), "nonce at", r.at)


def plaintext(r, opener):
    data = r.payload
    if r.cipher:
        try:
            data = opener(r.stream).decrypt(r.nonce, data, r.header[:60])
        except InvalidTag:
            raise Refused(f"the payload at {r.at} does not open under the machine's key") from None
    if r.codec:
        try:
            require(zstandard.frame_content_size(data) in (-1, r.length), "the frame at", r.at, "has another length")
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=r.length, allow_extra_data=False)
        except zstandard.ZstdError as problem:
            raise Refused(f"the payload at {r.at} is not a zstd frame: {problem}") from None
    require(len(data) == r.length and hash128(data) == r.hash, "the content at", r.at, "is not what the source hashed")
    return data


# ---- marks ----

Mark = collections.namedtuple("Mark", "kind flags sequence generation epoch time machine count bytes digest tag disks")


def parse_mark(p):
    require(len(p) >= 120, "mark of", len(p), "bytes")
    version, kind, flags, disk_count, sequence, generation, epoch, time = struct.unpack_from("<HBBIQQQQ", p)
    machine, _, count, length, digest, _, tag_length = struct.unpack_from("<16s16sQQ16sQH", p, 40)
    range_count, = struct.unpack_from("<H", p, 114)
    require(version == (2 if range_count else 1) and range_count <= 64 and kind <= 3 and flags <= 7 and zeros(p[116:120]), "unknown kind of mark")
    require(1 <= disk_count <= 64 and tag_length <= 255 and min(sequence, generation, epoch) >= 1, "numbers of the mark")
    tag, at = padded(p, 120, tag_length)
    require(b"\0" not in tag, "NUL in a tag")
    disks, last = {}, -1
    for _ in range(disk_count):
        require(at + 24 <= len(p), "the mark ends within its disks")
        number, sector, size, name_length = struct.unpack_from("<IIQH", p, at)
        require(last < number <= 1023 and 1 <= name_length <= 63 and zeros(p[at + 18:at + 24]), "disk in the mark")
        name, at = padded(p, at + 24, name_length)
        disks[number], last = (size, sector, name.decode()), number
    check_ranges(p, at, range_count, disks)
    require(at + 24 * range_count == len(p), "bytes behind the mark")
    return Mark(kind, flags, sequence, generation, epoch, time, machine, count, length, digest, tag.decode(), disks)


def check_ranges(p, at, count, disks):
    """What the source could not read, of version 2: ascending, apart from each other, within the disks."""
    require(at + 24 * count <= len(p), "the mark ends within its ranges")
    before = (-1, 0)
    for i in range(count):
        number, zero, start, length = struct.unpack_from("<IIQQ", p, at + 24 * i)
        require(zero == 0 and number in disks and length > 0 and start + length <= disks[number][0], "range in the mark")
        require(number > before[0] or start > before[1], "order of the ranges")
        before = (number, start + length)


def padded(p, at, n):
    end = at + pad8(n)
    require(end <= len(p) and zeros(p[at + n:end]), "padding in the mark")
    return p[at:at + n], end


class ChangeSet:
    """The data and zero records since the last mark."""

    def __init__(self):
        self.records = []

    def closed_by(self, m):
        rows = b"".join(struct.pack("<IQQ16s", r.disk, r.start, r.length, r.hash) for r in self.records)
        require(m.count == len(self.records) and m.bytes == sum(r.length for r in self.records), "set", m.sequence,
                "has other records than its mark counted")
        require(m.digest == hash128(rows), "set", m.sequence, "is not the one that its mark was made for")


# ---- segments ----

class Segment:
    def __init__(self, path, machine):
        self.path, self.data = path, read_file(path)
        data = self.data
        require(len(data) >= FIRST_RECORD and data[:8] in (b"LWSEG\0\0\1", b"LWSEG\0\0\2"), path, "is not a segment of version 1 or 2")
        self.rewritten, self.lost = data[7] == 2, []
        require(struct.unpack_from("<I", data, 64)[0] == check32(data[:64]), path, "has a damaged header")
        self.number, self.first, _ = struct.unpack_from("<QQQ", data, 40)
        require(data[8:24] == machine and zeros(data[24:40]), path, "belongs to another machine or to a branch")
        require(os.path.basename(path) == f"{self.number:016x}.seg", path, "was renamed")
        if self.rewritten:
            self.read_table(data)
        else:
            require(zeros(data[68:FIRST_RECORD]), path, "has bytes between header and records")

    def read_table(self, data):
        """The second part of a rewritten segment's header, and the table behind its seal. The records are walked in the order of the
        file, so of the table only the lost ranges matter here; that its chunks fill the file is checked."""
        require(struct.unpack_from("<I", data, 128)[0] == check32(data[:128]), self.path, "has a damaged header")
        require(zeros(data[68:72]) and zeros(data[108:112]) and zeros(data[132:FIRST_RECORD]), self.path, "has bytes in its header")
        self.last, end, seal, chunks, lost, revision = struct.unpack_from("<QQQIII", data, 72)
        require(revision >= 1 and self.last >= self.first, self.path, "has a header that makes no sense")
        table = data[seal + HEADER + 32:]
        require(len(table) == 16 * lost + 8 * chunks and hash128(table) == data[112:128], self.path, "has a damaged table")
        self.lost = [struct.unpack_from("<QQ", table, 16 * i) for i in range(lost)]
        at, place = FIRST_RECORD, FIRST_RECORD
        rows = [struct.unpack_from("<II", table, 16 * lost + 8 * i) for i in range(chunks)]
        for (stood, begin), behind in zip(rows, [row[1] for row in rows[1:]] + [seal]):
            require(begin == at and behind > begin and stood >= place, self.path, "has chunks that make no sense")
            at, place = behind, stood + behind - begin
        require(at == seal and place <= end, self.path, "has chunks that do not fill it")
        self.data = data[:seal + HEADER + 32]

    def records(self):
        """Each record up to the seal, which is checked, or up to the first place where there is none: raises Torn there."""
        at, headers = FIRST_RECORD, []
        while at < len(self.data):
            r = record_at(self.data, at)
            at += HEADER + len(r.payload)
            if r.kind in (MARK, SEAL) and hash128(r.payload) != r.hash:
                raise Torn(f"the mark or seal at {r.at} is damaged", r.kind == SEAL)
            yield r
            if r.kind == SEAL:
                require(len(r.payload) == 32, self.path, "has a seal of another size")
                count, size, digest = struct.unpack("<QQ16s", r.payload)
                require((count, size) == (len(headers), r.at) and digest == hash128(b"".join(headers)), self.path,
                        "is not the one that was sealed")
                require(at == len(self.data), self.path, "has bytes behind its seal")
            headers.append(r.header)


def segments(folder, machine):
    names = sorted(n for n in os.listdir(folder) if re.fullmatch(r"[0-9a-f]{16}\.seg", n))
    require(names, folder, "has no segments")
    found = [Segment(os.path.join(folder, n), machine) for n in names]
    numbers = [s.number for s in found]
    require(numbers == list(range(1, len(numbers) + 1)), "segments", numbers, "are not the whole log")
    return found


# ---- the log ----

class Point:
    """A recovery point, opened. `images` has the content of each disk; `seen` says what the walk met."""

    def __init__(self, data, machine_text, sequence):
        machine = uuid.UUID(machine_text).bytes
        folder = os.path.join(data, "machines", str(uuid.UUID(machine_text)))
        self.meta = Meta(os.path.join(folder, "meta"), machine, vault_key(os.path.join(data, "vault.key")))
        self.machine, self.wanted = machine, sequence
        self.seen, self.nonces, self.written = collections.Counter(), set(), set()
        self.images, self.mark, self.first_seen = {}, None, False
        self.tear = ""
        log = segments(os.path.join(folder, "main"), machine)
        self.seen["rewritten segments"] = sum(s.rewritten for s in log)
        require(not any(start <= sequence < before for s in log for start, before in s.lost), sequence,
                "was dropped, and what it needs was taken out of the log")
        self.reached = 0  # every change set up to here is taken
        for segment, following in zip(log, log[1:] + [None]):
            if self.walk(segment, following):
                break
        require(self.mark and self.mark.sequence == sequence, "the log has no mark", sequence, self.tear)
        require(self.mark.kind != PROGRESS and self.first_seen, sequence, "is a mark, but not a recovery point")
        for number, (size, _, _) in self.mark.disks.items():
            image = self.images.setdefault(number, bytearray())
            image.extend(bytes(max(0, size - len(image))))
            del image[size:]

    def walk(self, segment, following):
        """Takes the change sets of one segment; true when the wanted one is reached. What stands behind a bad record does not
        count; if it was to count, the first sequence of the next segment shows it, or that the wanted mark is missing. Nor does
        what stands where the next one begins."""
        expected, is_last = self.reached + 1, following is None
        require(segment.first == expected, segment.path, "begins with", segment.first, "instead of", expected, self.tear)
        pending = ChangeSet()
        self.segment = segment
        try:
            for r in segment.records():
                if following and not segment.rewritten and r.kind != SEAL and self.reached + 1 == following.first:
                    break
                if r.kind in (DATA, ZERO):
                    pending.records.append(r)
                elif r.kind == SEAL:
                    require(segment.rewritten or not pending.records, segment.path, "is sealed within a change set")
                    self.seen["seals"] += 1
                    if segment.rewritten and self.reached < self.wanted:
                        self.take(pending, self.mark)
                        self.reached = segment.last
                elif self.reached < self.wanted:
                    self.commit(parse_mark(r.payload), pending)
                    pending = ChangeSet()
                else:
                    pending = ChangeSet()  # behind the wanted one: only the seal is of interest
        except Torn as tear:
            self.tear = f"({segment.path}: {tear})"
            require(is_last or not tear.is_seal, self.tear)
        return self.reached >= self.wanted

    def commit(self, m, pending):
        expected, segment = self.reached + 1, self.segment
        require(m.sequence == expected or segment.rewritten and expected <= m.sequence <= segment.last, "mark", m.sequence, "where",
                expected, "belongs")
        require(m.machine == self.machine, "mark", m.sequence, "of another machine")
        before = self.mark or m
        require(before.epoch <= m.epoch <= self.meta.epoch, "epoch", m.epoch, "of mark", m.sequence)
        require(before.generation <= m.generation <= self.meta.generation, "generation", m.generation, "of mark", m.sequence)
        if not segment.rewritten:
            pending.closed_by(m)
        self.take(pending, m)
        self.mark, self.reached = m, m.sequence
        self.first_seen = self.first_seen or bool(m.flags & MARK_FIRST)
        self.seen["sets"] += 1

    def take(self, pending, m):
        for r in pending.records:
            self.apply(r, m)

    def apply(self, r, m):
        # The format has no such rule; this reader holds images in memory and bounds them by the sizes in the marks. Behind the last
        # mark of a rewritten segment there is none to go by.
        if m is not None and not self.segment.rewritten:
            require(r.disk in m.disks and r.start + r.length <= m.disks[r.disk][0], "record outside of its disk at", r.at)
        image = self.images.setdefault(r.disk, bytearray())
        end = r.start + r.length
        if len(image) < end:
            image.extend(bytes(end - len(image)))
        if r.kind == ZERO:
            image[r.start:end] = bytes(r.length)
            self.seen["zero records"] += 1
            return
        if r.cipher:
            require((r.stream, r.counter) not in self.nonces, "a nonce is used twice at", r.at)
            require(self.meta.next_stream == 0 or r.stream < self.meta.next_stream, "a nonce stream that nobody was given")
            self.nonces.add((r.stream, r.counter))
        image[r.start:end] = plaintext(r, self.meta.opener)
        self.seen["data records"] += 1
        self.seen["encrypted"] += r.cipher
        self.seen["under older keys"] += r.cipher and r.stream < self.meta.keys[0][0]
        self.seen["compressed"] += r.codec
        self.seen["rewritten"] += (r.disk, r.start) in self.written
        self.written.add((r.disk, r.start))


def main(data, machine, sequence, disk, target):
    try:
        point = Point(data, machine, int(sequence))
        require(int(disk) in point.mark.disks, "the point has no disk", disk)
    except (Refused, OSError) as problem:
        sys.exit(f"refused: {problem}")
    with open(target, "wb") as f:
        f.write(point.images[int(disk)])
    print(", ".join(f"{n} {what}" for what, n in sorted(point.seen.items())))


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
