#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the agent asks of the machine that it runs on: one program, few libraries, no new C library (docs/protected-machines.md)."""
import os
import re

from harness import BIN, check, main, run, test

AGENT = os.path.join(BIN, "leeward-agent")
GLIBC = (2, 34)       # Ubuntu 22.04 has 2.35, RHEL 9 has 2.34
LIBSYSTEMD = (247,)   # Debian 11 has 247
LIBRARIES = {"libc.so.6", "libm.so.6", "libmount.so.1", "libsystemd.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def newest(prefix):
    found = re.findall(rf"\({prefix}_([0-9.]+)\)", run("objdump", "-T", AGENT))
    check(found, f"the program asks for no version of {prefix}")
    return max(tuple(map(int, version.split("."))) for version in found)


@test
def few_libraries_are_asked_for():
    needed = set(re.findall(r"NEEDED +(\S+)", run("objdump", "-p", AGENT)))
    check(needed <= LIBRARIES, f"the agent needs {sorted(needed - LIBRARIES)} on the machine that it protects")


@test
def no_new_versions_are_asked_for():
    check(newest("GLIBC") <= GLIBC, f"the agent needs glibc {newest('GLIBC')}")
    check(newest("LIBSYSTEMD") <= LIBSYSTEMD, f"the agent needs libsystemd {newest('LIBSYSTEMD')}")


if __name__ == "__main__":
    main()
