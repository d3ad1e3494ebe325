#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A page of the manual, made of what a program says with --help, so that it cannot say anything else.

    manpage.py PROGRAM SECTION FILE.gz
"""
import gzip
import os
import re
import subprocess
import sys

SEE_ALSO = ["leeward(1)", "leeward-hub(8)", "leeward-node(8)", "leeward-vault(8)", "leeward-agent(8)"]


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def summary_of(help_text, name):
    """What follows the name in the first line, up to the first full stop."""
    first = help_text.strip().split("\n")[0]
    summary = re.sub(rf"^{re.escape(name)}\s*(-|:)\s*", "", first).strip()
    return re.split(r"[.:](\s|$)", summary)[0] or "part of Leeward"


def page(program, section):
    name = os.path.basename(program)
    said = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60)
    help_text = said.stdout or said.stderr
    if not help_text.strip():
        raise SystemExit(f"{name} --help said nothing")
    others = [x for x in SEE_ALSO if x != f"{name}({section})"]
    return "\n".join([
        f".TH {name.upper()} {section} \"\" Leeward",
        ".SH NAME",
        f"{roff(name)} \\- {roff(summary_of(help_text, name))}",
        ".SH DESCRIPTION",
        ".nf",
        roff(help_text.strip()),
        ".fi",
        ".SH SEE ALSO",
        roff(", ".join(others)),
        ""])


def main():
    program, section, target = sys.argv[1:]
    with open(target, "wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=0) as packed:
        packed.write(page(program, section).encode())


if __name__ == "__main__":
    main()
