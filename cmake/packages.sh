#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages of cmake/packages.txt that are missing; with all of them there it only asks dpkg once.
#     cmake/packages.sh            installs
#     cmake/packages.sh --list     prints what is missing
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

missing=$(comm -23 <(sort -u "$here/packages.txt") \
    <(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 2>/dev/null | sed -n 's/^ii //p' | sort -u))
if [ "${1:-}" = --list ]; then
    [ -z "$missing" ] || echo "$missing"
    exit 0
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "These packages are missing: $(echo $missing)" >&2
    echo "Install them, or run this as root: sudo apt-get install $(echo $missing)" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# No cluster of its own: the hub starts a private one, and a server that nobody asked for would take port 5432.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Installing $(echo "$missing" | wc -l) Debian packages ..." >&2
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "Installing packages failed; see the lines above." >&2
    exit 1
fi
