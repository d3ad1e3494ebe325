# SPDX-License-Identifier: Apache-2.0
"""The log of the kernel's dm-log-writes target, and what it says about an image of the disk below it.

The target puts each write into its log when it has completed, and each flush behind the writes that had completed when it was
submitted. So the log is a list of groups with a flush behind each. A writer that waits for each flush before it goes on issues
the writes of a group after the flush before it: an image with any write of group g must have all writes of the groups before g.
Source: drivers/md/dm-log-writes.c (superblock, entries, flags), Documentation/admin-guide/device-mapper/log-writes.rst.
"""
import struct

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
BLOCK = 4096


class WriteLog:
    """versions[block] is the list of (group, content) that went there, in order; it begins with what was there before."""

    def __init__(self, path, before):
        self.versions = [[(-1, before[at:at + BLOCK])] for at in range(0, len(before), BLOCK)]
        self.groups = 0
        self.writes = 0
        with open(path, "rb") as f:
            self._read(f)

    def _read(self, f):
        magic, version, entries, sector_bytes = struct.unpack("<QQQI", f.read(28))
        if magic != MAGIC or version != 1:
            raise ValueError("this is no log of dm-log-writes")
        at = sector_bytes
        for _ in range(entries):
            f.seek(at)
            sector, sectors, flags, _ = struct.unpack("<QQQQ", f.read(32))
            at += sector_bytes
            has_data = sectors and not flags & (DISCARD | MARK)
            if flags & FLUSH:
                self.groups += 1
            if flags & (DISCARD | FUA):
                raise ValueError("the workload was not to discard or to write with FUA")
            if has_data:
                f.seek(at)
                self._add(sector * sector_bytes, f.read(sectors * sector_bytes))
                at += sectors * sector_bytes

    def _add(self, start, data):
        if start % BLOCK or len(data) % BLOCK:
            raise ValueError("a write of less than a block")
        self.writes += 1
        for offset in range(0, len(data), BLOCK):
            self.versions[(start + offset) // BLOCK].append((self.groups, data[offset:offset + BLOCK]))

    def judge(self, image):
        """The newest group in the image; ValueError when no moment of the log could have left the image."""
        newest, missing = -1, self.groups + 1
        for block, versions in enumerate(self.versions):
            content = image[block * BLOCK:(block + 1) * BLOCK]
            found = next((i for i in reversed(range(len(versions))) if versions[i][1] == content), None)
            if found is None:
                raise ValueError(f"block {block} holds what was never written to it")
            newest = max(newest, versions[found][0])
            if found + 1 < len(versions):
                missing = min(missing, versions[found + 1][0])
        if missing < newest:
            raise ValueError(f"a write of group {newest} is there, and one of group {missing} is not")
        return newest
