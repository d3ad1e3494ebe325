#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the Debian packages of a build: the same bytes for the same sources, folder and tools, whenever.
#     packaging/make-packages.sh [BUILD [FOLDER [RELEASE]]]     (build/check, BUILD/packages, 1)
# The time in them is that of the last commit, or $SOURCE_DATE_EPOCH.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:-$root/build/check}")
folder=${2:-$build/packages}
release=${3:-1}

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"
folder=$(realpath "$folder")
if ! (cd "$work" && cpack -G DEB --config "$build/CPackConfig.cmake" -B "$work" -D CPACK_DEBIAN_PACKAGE_RELEASE="$release") >"$work/log" 2>&1; then
    cat "$work/log" >&2
    exit 1
fi
rm -f "$folder"/*.deb
mv "$work"/*.deb "$folder"
ls "$folder"/*.deb
