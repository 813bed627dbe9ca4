#!/bin/sh
# Runs every fuzz target of a build for a while, from small valid files where it reads files: run_short.sh BUILD_DIR SECONDS. Fails on
# any finding, which is left in BUILD_DIR/fuzz-findings together with what reproduces it on standard error.
set -eu
# oneDNN's threads must not spin.
export OMP_WAIT_POLICY=passive
if [ $# -ne 2 ]; then
  echo "usage: $0 BUILD_DIR SECONDS" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
seconds=$2
findings=$build/fuzz-findings
mkdir -p "$findings"
status=0
ran=0
for target in bst_fuzz onnx_fuzz kernels_fuzz; do
  program=$build/bin/$target
  [ -x "$program" ] || continue
  ran=$((ran + 1))
  case $target in
    bst_fuzz) seeds=$(ls -d "$here"/../tests/golden/v*) ;;
    onnx_fuzz) seeds=$build/fuzz-seeds/onnx && "$build/bin/make_onnx_seeds" "$seeds" ;;
    kernels_fuzz) seeds= ;;
  esac
  corpus=$build/fuzz-corpus/$target
  mkdir -p "$corpus"
  # shellcheck disable=SC2086 # one folder per word
  if ! UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$program" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
      -max_len=16384 -seed=1 -print_final_stats=1 -artifact_prefix="$findings/$target-" "$corpus" $seeds; then
    echo "$target: found something, see $findings" >&2
    status=1
  fi
done
if [ "$ran" -eq 0 ]; then
  echo "no fuzz target in $build/bin: configure with -DBITSTRATA_FUZZ=ON and build them" >&2
  exit 1
fi
exit $status
