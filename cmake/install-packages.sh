#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages of a list (default: packages.txt beside this file) that are missing. Quick and silent when
# none is. Needs root only when something is missing.
#     cmake/install-packages.sh [LIST]
set -euo pipefail
list=${1:-$(dirname "$0")/packages.txt}
mapfile -t wanted < <(grep -vE '^(#|$)' "$list")
mapfile -t missing < <(
    # A package counts as there when another one provides it (npm comes with some builds of nodejs, which exclude Debian's).
    comm -13 <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}, ${Provides}\n' 2>/dev/null | sed -n 's/^ii *//p' |
        tr ',' '\n' | sed 's/ *([^)]*)//; s/ //g' | sort -u) \
        <(printf '%s\n' "${wanted[@]}" | sort -u))
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing packages: ${missing[*]}; run this as root, or: apt-get install ${missing[*]}" >&2
    exit 1
fi
# Leeward runs its own private PostgreSQL: the package need not create and start a cluster of the system's.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi
# Tests run beside each other, and apt gives up at once where another one of it is at work.
exec 9>/run/lock/leeward-apt.lock
flock 9
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
options=(-q -y -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold)
if ! { apt-get update "${options[@]}" && apt-get install "${options[@]}" --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    echo "could not install: ${missing[*]}" >&2
    exit 1
fi
