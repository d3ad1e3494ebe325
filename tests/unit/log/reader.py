# SPDX-License-Identifier: Apache-2.0
#
# An independent reader of segments, made from transport/log/FORMAT.md and from nothing else. It reads the golden files, checks
# every checksum, hash, digest and tag, and compares what it finds with the content that golden_test.c puts there.
# XXH3, zstd and AES-GCM come from the libraries on the machine through ctypes.
import ctypes
import ctypes.util
import struct
import sys

xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash"))
zstd = ctypes.CDLL(ctypes.util.find_library("zstd"))
crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


xxhash.XXH3_128bits.restype = Hash128
xxhash.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
xxhash.XXH3_64bits.restype = ctypes.c_uint64
xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
zstd.ZSTD_decompress.restype = ctypes.c_size_t
zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
crypto.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
crypto.EVP_aes_256_gcm.restype = ctypes.c_void_p
for name in ("EVP_DecryptInit_ex", "EVP_DecryptUpdate", "EVP_DecryptFinal_ex", "EVP_CIPHER_CTX_ctrl"):
    getattr(crypto, name).restype = ctypes.c_int


def hash128(data):
    h = xxhash.XXH3_128bits(data, len(data))
    return struct.pack(">QQ", h.high, h.low)


def check32(data):
    return xxhash.XXH3_64bits(data, len(data)) & 0xFFFFFFFF


def decrypt(key, nonce, aad, payload):
    text, tag = payload[:-16], payload[-16:]
    ctx = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    out = ctypes.create_string_buffer(len(text) + 16)
    n = ctypes.c_int()
    assert crypto.EVP_DecryptInit_ex(ctx, ctypes.c_void_p(crypto.EVP_aes_256_gcm()), None, key, nonce) == 1
    assert crypto.EVP_DecryptUpdate(ctx, None, ctypes.byref(n), aad, len(aad)) == 1
    assert crypto.EVP_DecryptUpdate(ctx, out, ctypes.byref(n), text, len(text)) == 1
    assert crypto.EVP_CIPHER_CTX_ctrl(ctx, 0x11, 16, tag) == 1  # EVP_CTRL_AEAD_SET_TAG
    assert crypto.EVP_DecryptFinal_ex(ctx, out, ctypes.byref(n)) == 1, "tag does not fit"
    return out.raw[: len(text)]


def decompress(data, length):
    out = ctypes.create_string_buffer(length)
    assert zstd.ZSTD_decompress(out, length, data, len(data)) == length
    return out.raw


def parse_header(data):
    magic, kind, codec, cipher, flags, disk, stored, start, length = struct.unpack_from("<4sBBBBIIQQ", data)
    digest = data[32:48]
    stream, counter, check = struct.unpack_from("<IQI", data, 48)
    assert magic == b"LWR1" and flags == 0 and check == check32(data[:60])
    return dict(kind=kind, codec=codec, cipher=cipher, disk=disk, stored=stored, start=start, length=length,
                hash=digest, nonce=struct.pack("<IQ", stream, counter), header=data[:64])


def plaintext(r, payload, key):
    if r["cipher"] == 1:
        payload = decrypt(key, r["nonce"], r["header"][:60], payload)
    if r["codec"] == 1:
        payload = decompress(payload, r["length"])
    assert len(payload) == r["length"] and hash128(payload) == r["hash"]
    return payload


def pad8(n):
    return (n + 7) // 8 * 8


def parse_mark(p):
    version, kind, flags, disks = struct.unpack_from("<HBBI", p)
    sequence, generation, epoch, time = struct.unpack_from("<QQQQ", p, 8)
    count, changed = struct.unpack_from("<QQ", p, 72)
    unreadable, tag_length = struct.unpack_from("<QH", p, 104)
    ranges, = struct.unpack_from("<H", p, 114)
    assert version == (2 if ranges else 1) and p[116:120] == bytes(4)
    at = 120
    tag = p[at:at + tag_length].decode()
    at += pad8(tag_length)
    found = []
    for _ in range(disks):
        number, sector, size, n = struct.unpack_from("<IIQH", p, at)
        found.append((number, sector, size, p[at + 24:at + 24 + n].decode()))
        at += 24 + pad8(n)
    bad = [struct.unpack_from("<QQQ", p, at + 24 * i) for i in range(ranges)]
    assert at + 24 * ranges == len(p)
    return dict(kind=kind, flags=flags, sequence=sequence, generation=generation, epoch=epoch, time=time,
                machine=p[40:56], count=count, changed=changed, digest=p[88:104], tag=tag, disks=found,
                unreadable=unreadable, ranges=bad)


def read_segment(path, key):
    data = open(path, "rb").read()
    assert data[:8] == b"LWSEG\0\0\1" and struct.unpack_from("<I", data, 64)[0] == check32(data[:64])
    assert data[68:4096] == bytes(4096 - 68)
    machine, at, headers, rows, content = data[8:24], 4096, b"", b"", {}
    count, changed, marks, sealed = 0, 0, [], False
    while at < len(data):
        assert not sealed
        r = parse_header(data[at:at + 64])
        payload = data[at + 64:at + 64 + r["stored"]]
        if r["kind"] == 4:
            n, size, digest = struct.unpack("<QQ16s", payload)
            assert n == len(headers) // 64 and size == at and digest == hash128(headers)
            sealed = True
        if r["kind"] == 3:
            assert hash128(payload) == r["hash"]
            m = parse_mark(payload)
            assert (m["count"], m["changed"], m["digest"]) == (count, changed, hash128(rows))
            assert m["machine"] == machine
            marks.append(m)
            count, changed, rows = 0, 0, b""
        if r["kind"] in (1, 2):
            block = plaintext(r, payload, key) if r["kind"] == 1 else None
            content[(r["disk"], r["start"])] = block if block is not None else r["length"]
            rows += struct.pack("<IQQ16s", r["disk"], r["start"], r["length"], r["hash"])
            count, changed = count + 1, changed + r["length"]
        headers += r["header"]
        at += 64 + r["stored"]
    assert sealed and at == len(data)
    return marks, content


def sample_block(seed, compressible, n):
    x = (seed * 2654435761 + 1) & 0xFFFFFFFF
    out = bytearray(n)
    for i in range(n):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = (b"leeward "[i % 8] + (x >> 29 if i % 512 == 0 else 0)) & 0xFF if compressible else x >> 24
    return bytes(out)


def main(folder):
    key = bytes(range(1, 33))
    for name in ("plain", "encrypted", "unreadable", "compressed"):
        marks, content = read_segment(f"{folder}/{name}.seg", key)
        for i in range(4):
            assert content[(i % 2, 65536 * i)] == sample_block(900 + i, i % 2 == 0, 4096), (name, i)
        assert content[(0, 1 << 20)] == 1 << 24
        assert len(marks) == 1 and marks[0]["tag"] == "golden" and marks[0]["flags"] == 2
        assert marks[0]["disks"] == [(0, 512, 1 << 30, "vda"), (1, 4096, 1 << 20, "nvme0n1")]
        holes = [(0, 8 << 20, 8192), (1, (1 << 20) - 4096, 4096)] if name == "unreadable" else []
        assert marks[0]["ranges"] == holes and marks[0]["unreadable"] == (5 if holes else 0)
        print(f"{name}: 4 blocks, 1 zero range, 1 mark, sealed")


main(sys.argv[1])
