#!/bin/sh
# Prepares what the judge test needs, once: ONNX Runtime for Node and torchvision's networks with ONNX Runtime's outputs.
# usage: setup.sh BUILD_FOLDER      Exits 0 also when something is missing: the reason is then in BUILD_FOLDER/skipped.txt.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
rm -f skipped.txt

skip() {
  echo "$1" | tee skipped.txt
  exit 0
}

command -v node > /dev/null || skip "node is missing"
command -v npm > /dev/null || skip "npm is missing"

if [ ! -e installed ] || ! cmp -s "$here/package-lock.json" package-lock.json; then
  rm -rf installed node_modules
  cp "$here/package.json" "$here/package-lock.json" .
  npm ci --ignore-scripts --no-audit --no-fund > npm.log 2>&1 || skip "npm could not install onnxruntime-node: $(tail -n 1 npm.log)"
  touch installed
fi

status=0
/usr/bin/python3 "$here/export_torchvision.py" . > export.log 2>&1 || status=$?
[ "$status" -ne 77 ] || skip "python3-torchvision is missing"
[ "$status" -eq 0 ] || { cat export.log; exit "$status"; }

node "$here/run_ort.js" . ./*.onnx
