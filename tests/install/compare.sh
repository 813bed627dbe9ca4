#!/usr/bin/env bash
# compare.sh FOLDER COMMAND...: runs COMMAND on the model and image of FOLDER (tests/embed/make_model.cpp) and compares what it prints with
# the scores expected and their class.
set -euo pipefail
folder=$1
shift
diff <(cat "$folder/expected.txt"; echo "class 7: seven") <("$@" "$folder/model.bst" "$folder/image.f32") >&2 ||
  { echo "$*: < expected, > printed" >&2; exit 1; }
