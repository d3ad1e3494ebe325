#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# webui/check.sh types|lint|unit: one kind of test of the console's sources. After a build with tests (webui/build.sh).
set -euo pipefail
cd "$(dirname "$0")"
node=$(./build.sh --node)
export PATH="$(dirname "$node"):$PATH"
case ${1:-} in
types) exec "$node" node_modules/typescript/bin/tsc --noEmit ;;
lint) exec "$node" node_modules/eslint/bin/eslint.js --max-warnings 0 . ;;
unit) exec "$node" node_modules/vitest/vitest.mjs run ;;
*) echo "usage: webui/check.sh types|lint|unit" >&2 && exit 2 ;;
esac
