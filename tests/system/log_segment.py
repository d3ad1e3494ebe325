# SPDX-License-Identifier: Apache-2.0
"""A segment of a vault's log, to be damaged."""
import os
import struct


class Segment:
    """A sealed segment file, read as FORMAT.md says."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as f:
            data = f.read()
        self.records, at = [], 4096  # (offset, stored, disk start, length) of data records
        while data[at:at + 4] == b"LWR1":
            kind, stored = data[at + 4], struct.unpack_from("<I", data, at + 12)[0]
            if kind == 1:
                self.records.append((at, stored, *struct.unpack_from("<QQ", data, at + 16)))
            at += 64 + stored

    def whole_block(self, begin):
        """The first record of 64 KiB at or behind that byte of the disk."""
        return min((r for r in self.records if r[2] >= begin and r[3] == 65536), key=lambda r: r[2])

    def change(self, offset, data):
        with open(self.path, "r+b") as f:
            f.seek(offset)
            f.write(data)
            os.fsync(f.fileno())

    def flip(self, offset):
        with open(self.path, "rb") as f:
            f.seek(offset)
            byte = f.read(1)[0]
        self.change(offset, bytes([byte ^ 4]))
