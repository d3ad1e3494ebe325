# SPDX-License-Identifier: Apache-2.0
"""Writers that know what they wrote and when it was durable, and judges that hold a point to it.

A ledger is a sequence of records 1, 2, 3, ... written one after the other, each made durable before the next begins. What a
disk held at a moment is therefore a prefix: every record that was answered before the moment is in it, none is missing in
between, and nothing much newer is there. With several places, record n goes to place n % count, so that the prefix property
ties the places together (two disks of one machine).
"""
import mmap
import os
import signal
import struct
import time
import zlib

from harness import Failure, check, defer, fresh, undo, wait_until

RECORD = struct.Struct("<QdI")  # number, time, checksum
BLOCK = 4096
DURABLE = struct.Struct("<d")


def _record(number):
    now = time.time()
    body = struct.pack("<Qd", number, now)
    return RECORD.pack(number, now, zlib.crc32(body))


def _read_record(data):
    number, moment, checksum = RECORD.unpack_from(data)
    if number == 0 and checksum == 0:
        return 0
    if zlib.crc32(struct.pack("<Qd", number, moment)) != checksum:
        raise Failure(f"a torn record: number {number}")
    return number


class Ledger:
    """A child process that writes until it is stopped. `places` are files or block devices; each holds `slots` blocks from byte `at` on.

    The moment at which each record was durable goes to a file of the test's own, which no point contains."""

    def __init__(self, places, slots, pause_s=0.0, limit=2_000_000, at=0):
        self.places, self.slots, self.at = list(places), slots, at
        self.journal = fresh("ledger")
        with open(self.journal, "wb") as f:
            f.truncate(limit * DURABLE.size)
        self.begin = time.time()
        self.pid = os.fork()
        if self.pid == 0:
            self._write(pause_s, limit)
        self._undo = defer(self._stop)
        wait_until(lambda: self.durable(1), "the first ledger record", 20)

    def _write(self, pause_s, limit):
        status = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            with open(self.journal, "r+b") as f:
                times = mmap.mmap(f.fileno(), 0)
            block = mmap.mmap(-1, BLOCK)  # aligned, as O_DIRECT wants it
            files = [os.open(p, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC, 0o600) for p in self.places]
            for number in range(1, limit):
                block[:RECORD.size] = _record(number)
                slot = (number // len(files)) % self.slots
                os.pwrite(files[number % len(files)], block, self.at + slot * BLOCK)
                DURABLE.pack_into(times, number * DURABLE.size, time.time())
                if pause_s:
                    time.sleep(pause_s)
            status = 0
        finally:
            os._exit(status)

    def durable(self, number):
        """When that record was durable; 0.0: not yet."""
        with open(self.journal, "rb") as f:
            f.seek(number * DURABLE.size)
            return DURABLE.unpack(f.read(DURABLE.size))[0]

    def durable_before(self, moment):
        """The highest number that was durable before the moment."""
        with open(self.journal, "rb") as f:
            times = f.read()
        low, high = 0, len(times) // DURABLE.size - 1
        while low < high:  # times grow, and are zero behind the last
            middle = (low + high + 1) // 2
            value = DURABLE.unpack_from(times, middle * DURABLE.size)[0]
            low, high = (middle, high) if 0 < value < moment else (low, middle - 1)
        return low

    def is_alive(self):
        return os.waitpid(self.pid, os.WNOHANG) == (0, 0)

    def stop(self):
        undo(self._undo)

    def _stop(self):
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)

    def judge(self, places, moment, slack_s=3.0):
        """Holds what the places of a point of `moment` contain to the ledger; the highest number in it."""
        newest = []
        for index, place in enumerate(places):
            numbers = self._numbers(place)
            own = [n for n in numbers if n]
            check(all(n % len(places) == index for n in own), f"{place}: records of another place")
            newest.append(max(own, default=0))
        last = max(newest)
        for index, place in enumerate(places):
            self._judge_place(self._numbers(place), index, len(places), last, place)
        expected = self.durable_before(moment)
        check(last >= expected, f"the point of {moment:.6f} ends at record {last}; {expected} was durable by then")
        after = self.durable_before(moment + slack_s) + 2
        check(last <= after, f"the point of {moment:.6f} holds record {last} of the future (at most {after})")
        return last

    def _numbers(self, place):
        with open(place, "rb") as f:
            f.seek(self.at)
            data = f.read(self.slots * BLOCK)
        return [_read_record(data[at:at + RECORD.size]) for at in range(0, len(data) - RECORD.size, BLOCK)]

    def _judge_place(self, numbers, index, count, last, place):
        """Every slot must hold the newest record <= last that belongs into it."""
        for slot, found in enumerate(numbers):
            turn = slot + (last // count - slot) // self.slots * self.slots if last // count >= slot else None
            wanted = 0
            while turn is not None and turn >= 0:
                number = turn * count + index
                if 1 <= number <= last:
                    wanted = number
                    break
                turn -= self.slots
            check(found == wanted, f"{place}: slot {slot} holds record {found} instead of {wanted} (the last is {last})")
