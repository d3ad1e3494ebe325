#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes of the tracking program one that marks a write when it is queued and not when it completes: a control for the tests.

Usage: mark_when_queued.py blocktrack.bpf.c OUT. Fails when the program no longer has the lines that it exchanges.
"""
import sys

AT_COMPLETION = """    if (op != OP_FLUSH)
        mark_request(map, h, dev, op, rq, bytes);
"""
AT_ISSUE = """    if (op == OP_FLUSH)
        __sync_fetch_and_add(&h->barriers, 1);
    f = find_flight(page, request);
"""


def exchange(text, old, new):
    if text.count(old) != 1:
        sys.exit(f"mark_when_queued.py: the program has changed; not there once:\n{old}")
    return text.replace(old, new)


def main():
    source, out = sys.argv[1:]
    with open(source) as f:
        text = f.read()
    text = exchange(text, AT_COMPLETION, "")
    text = exchange(text, AT_ISSUE, AT_ISSUE + "    if (op != OP_FLUSH)\n        mark_request(map, h, dev, op, rq, rq->__data_len);\n")
    with open(out, "w") as f:
        f.write(text)


if __name__ == "__main__":
    main()
