#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds helm from its Go module, in the version pinned here, and prints the path of the program. Quick when it is there already.
#     get-helm.sh FOLDER
# Takes the Go that the machine has. Where that is older than 1.21, which cannot fetch a newer one by itself, or where there is none,
# Debian's fetches the toolchain's module, which is a Go of its own.
set -euo pipefail
HELM=v3.22.0
TOOLCHAIN=v0.0.1-go1.26.8.linux-$(dpkg --print-architecture)
folder=$1
program=$folder/helm-$HELM
here=$(cd "$(dirname "$0")" && pwd)

if [ -x "$program" ]; then
    echo "$program"
    exit 0
fi
mkdir -p "$folder"

# True for a Go from 1.21 on.
is_recent() {
    local version
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    version=${version#go1.}
    [ "${version%%.*}" -ge 21 ] 2>/dev/null
}

go=$(command -v go || true)
if [ -z "$go" ] || ! is_recent "$go"; then
    "$here/../../../cmake/install-packages.sh" "$here/packages.txt"
    go=/usr/lib/go/bin/go
    if ! is_recent "$go"; then
        home=$(cd "$folder" && GOFLAGS=-modcacherw "$go" mod download -json "golang.org/toolchain@$TOOLCHAIN" |
            sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
        # A module's files are not executable.
        chmod -R u+w "$home"
        chmod +x "$home"/bin/* "$home"/pkg/tool/*/*
        go=$home/bin/go
        export GOROOT=$home
    fi
fi
work=$(mktemp -d "$folder/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && CGO_ENABLED=0 GOBIN=$(pwd) GOFLAGS='-trimpath' "$go" install -ldflags='-s -w' "helm.sh/helm/v3/cmd/helm@$HELM") >&2
mv "$work/helm" "$program"
echo "$program"
