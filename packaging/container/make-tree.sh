#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the tree of a small Debian 12 with some packages in it, as a container's image has it, or for a test to boot.
#     make-tree.sh FOLDER PACKAGE...
# The packages come from where this machine's own come from, or from $LEEWARD_DEBIAN_MIRROR. Needs root and mmdebstrap.
set -euo pipefail
folder=$1
shift
mirror=${LEEWARD_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk '$2 == "bookworm" && !found++ { print $1 }')}
if [ -z "$mirror" ]; then
    echo "make-tree.sh: no source of bookworm's packages; set LEEWARD_DEBIAN_MIRROR" >&2
    exit 1
fi
# No cluster of the system's: the hub makes a private one.
mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "$*")" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "5"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --essential-hook='mkdir -p "$1/etc/postgresql-common"' \
    --essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
    --format=directory bookworm "$folder" "deb $mirror bookworm main"
