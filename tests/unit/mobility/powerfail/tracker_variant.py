#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes variants of the tracking program for tests, by exchanging lines of it.

Usage: tracker_variant.py NAME blocktrack.bpf.c OUT

  queued   marks a write when it is queued and not when it completes: the proof must find that out
  unissued the completion of some requests is not told, and the issue of others: those that use the memory of the former then
  untold   as on a kernel that does not tell of one completion in sixteen: nothing may be lost by it

Fails when the program no longer has the lines that are exchanged.
"""
import sys

MARK_AT_COMPLETION = """    if (op != OP_FLUSH)
        mark_request(map, lane, dev, op, rq, bytes);
"""
AT_ISSUE = """    if (op == OP_FLUSH)
        COUNT(map, barriers);
    f = find_flight(lane, place, rq);
"""
MARK_AT_ISSUE = """    if (op != OP_FLUSH)
        mark_request(map, lane, dev, op, rq, rq->__data_len);
"""
AT_COMPLETION = """    __u32 flags = rq->cmd_flags, op = flags & OP_MASK, place, dev;
    struct bt_lane *lane = 0;
    struct bt_flight *f;
    void *map;

"""
NOT_TOLD = """    if (bytes && (rq->__sector & 15) == 5)
        return 0;
"""
OF_ISSUE = """    if ((!(op & 1) && op != OP_FLUSH) || op == OP_DRV_OUT)
        return 0;
    dev = dev_of(rq->q->disk);
"""
NOT_ISSUED = """    if (op == OP_WRITE && (rq->__sector & 15) == 6)
        return 0;
"""
VARIANTS = {
    "queued": [(MARK_AT_COMPLETION, ""), (AT_ISSUE, AT_ISSUE + MARK_AT_ISSUE)],
    "unissued": [(AT_COMPLETION, AT_COMPLETION + NOT_TOLD), (OF_ISSUE, NOT_ISSUED + OF_ISSUE)],
    "untold": [(AT_COMPLETION, AT_COMPLETION + NOT_TOLD)],
}


def main():
    name, source, out = sys.argv[1:]
    with open(source) as f:
        text = f.read()
    for old, new in VARIANTS[name]:
        if text.count(old) != 1:
            sys.exit(f"tracker_variant.py: the program has changed; not there once:\n{old}")
        text = text.replace(old, new)
    with open(out, "w") as f:
        f.write(text)


if __name__ == "__main__":
    main()
