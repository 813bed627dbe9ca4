#!/bin/sh
# Fetches the chart library that report.html carries, once: setup.sh FOLDER. Exits 0 also when that fails: reports then use charts of their own.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
cmp -s "$here/package-lock.json" package-lock.json && [ -e installed ] && exit 0

rm -rf installed node_modules
cp "$here/package.json" "$here/package-lock.json" .
if command -v npm > /dev/null && npm ci --ignore-scripts --no-audit --no-fund > npm.log 2>&1; then
  touch installed
else
  echo "the chart library could not be installed; reports will use plain charts" >&2
fi
