#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What the image's build does with Leeward's packages: installs them with what they need, and leaves nothing else behind.
#     install.sh FOLDER       with the packages, packages.txt and network; or
#     install.sh --offline FOLDER    when everything that they need is there already
set -eu
export DEBIAN_FRONTEND=noninteractive
if [ "$1" = --offline ]; then
    dpkg --install "$2"/leeward-*.deb
else
    apt-get update -q
    # No systemd in a container: the small tools alone make the users.
    grep -v '^#' "$1/packages.txt" | xargs apt-get install -q -y --no-install-recommends systemd-standalone-sysusers \
        "$1"/leeward-hub_*.deb "$1"/leeward-node_*.deb "$1"/leeward-vault_*.deb "$1"/leeward-nbd_*.deb "$1"/leeward-cli_*.deb
    rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
fi
rm -rf /var/log/dpkg.log /var/log/apt /var/cache/debconf/*-old
