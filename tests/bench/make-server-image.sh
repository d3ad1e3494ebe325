#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the 4 GiB server image on which the figures of initial replication are measured: an ext4 with a Debian root, a
# PostgreSQL data folder filled by pgbench, and 300 MB of random bytes; about 2.8 GiB in use.
#     tests/bench/make-server-image.sh IMAGE
# Needs root and Debian's packages; takes about a minute; leaves nothing but IMAGE, which appears whole or not at all.
set -euo pipefail
image=${1:?usage: make-server-image.sh IMAGE}
image=$(realpath -m "$image")
mkdir -p "$(dirname "$image")"
work=$(mktemp -d "$(dirname "$image")/image.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1):/usr/sbin:$PATH

# The suite and the mirror are those of this machine.
mmdebstrap --quiet --variant=standard --include=linux-image-cloud-amd64,openssh-server,postgresql,python3,gcc,git,vim-nox \
    --skip=cleanup/apt "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$work/root" >&2
install -d -o postgres -g postgres "$work/root/srv/pg" "$work/run"
pg() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@" >/dev/null; }
pg initdb -D "$work/root/srv/pg" -A trust
pg pg_ctl -D "$work/root/srv/pg" -w -o "-k $work/run -c listen_addresses='' -c fsync=off" -l "$work/run/log" start
pg createdb -h "$work/run" bench
pg pgbench -h "$work/run" -iq -s 40 bench
pg pg_ctl -D "$work/root/srv/pg" -w -m fast stop
head -c 300000000 /dev/urandom >"$work/root/srv/random"
truncate -s 4G "$work/image"
mkfs.ext4 -q -d "$work/root" "$work/image"
mv "$work/image" "$image"
