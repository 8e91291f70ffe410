#!/bin/sh
# Installs npm when there is none, then the packages of package-lock.json, each checked against the
# SHA-512 in it, and builds the programs that run inside guests. Does nothing that is done already.
#   scripts/install.sh [--with-tools]      with what the project's own checks and tests need
set -eu
project=$(dirname "$(dirname "$(readlink -f "$0")")")
cd "$project"

omit="--omit=dev"
wanted=node_modules/esbuild
if [ "${1:-}" = --with-tools ]; then
  omit=""
  wanted=node_modules/oxlint
fi

if ! command -v npm >/dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends ca-certificates nodejs npm
fi

installed=node_modules/.package-lock.json
if [ ! -d "$wanted" ] || [ ! "$installed" -nt package-lock.json ]; then
  # Not `npm ci`: it fails when the lock file lacks a package for another system, and a registry mirror
  # need not have those. This one too takes the versions of the lock file and checks their SHA-512.
  # shellcheck disable=SC2086 # empty means: leave nothing out
  npm install --no-save --ignore-scripts --no-audit --no-fund $omit
  touch "$installed"
fi
npm run --silent build
