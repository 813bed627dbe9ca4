#!/usr/bin/env bash
# wheel.sh PYTHON SOURCE BUILD MODEL_FOLDER: makes a wheel of BUILD with pip, checks its list of hashes, installs it into a folder of its own and
# runs the tests of the module from there, without the library of BUILD. Exits 77 where pip is missing.
set -euo pipefail
python=$1 source=$2 build=$3 model=$4
"$python" -m pip --version >/dev/null 2>&1 || { echo "python3-pip is missing"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH LD_LIBRARY_PATH
cd "$work"

pip() { "$python" -m pip --quiet --disable-pip-version-check --no-input "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }
pip wheel "$source" --no-index --no-build-isolation --no-deps --config-settings "build-dir=$build" --wheel-dir first
pip wheel "$source" --no-index --no-deps --config-settings "build-dir=$build" --wheel-dir second  # needs nothing from elsewhere
cmp first/*.whl second/*.whl || { echo "two wheels of one build differ" >&2; exit 1; }

pip install --no-index --no-deps --target installed first/*.whl
"$python" - "$work/installed" first/*.whl <<'END'
import base64, csv, hashlib, io, sys, zipfile
folder, wheel = sys.argv[1:]
archive = zipfile.ZipFile(wheel)
record, = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
rows = {name: digest for name, digest, _ in csv.reader(io.StringIO(archive.read(record).decode()))}
assert sorted(rows) == sorted(archive.namelist()), rows
for name, digest in rows.items():
    found = base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
    assert name == record or digest == "sha256=" + found, name
for name in ("bitstrata/py.typed", "bitstrata/__init__.pyi", "bitstrata/__init__.py"):
    assert name in rows, name
sys.path.insert(0, folder)
from importlib import metadata
import bitstrata
assert metadata.version("bitstrata") == bitstrata.__version__
assert metadata.metadata("bitstrata")["Requires-Dist"] == "numpy"
assert bitstrata.__file__.startswith(folder), bitstrata.__file__
END
! readelf -d installed/bitstrata/_runtime.*.so | grep -E 'libbitstrata|RPATH|RUNPATH' >&2 || { echo "the module looks for libbitstrata" >&2; exit 1; }
! nm -D --defined-only installed/bitstrata/_runtime.*.so | grep bitstrata >&2 || { echo "the module shows what is inside of it" >&2; exit 1; }

export PYTHONPATH=$work/installed BITSTRATA_EMBED_FOLDER=$model
"$source/tests/install/compare.sh" "$model" "$python" -B "$source/examples/classify.py"
"$python" -B "$source/tests/python/module_test.py"
