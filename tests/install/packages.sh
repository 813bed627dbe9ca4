#!/usr/bin/env bash
# packages.sh SOURCE BUILD [PROGRAM...]: makes the Debian packages, checks their fields and contents, unpacks them into an empty folder
# and uses them there.
set -euo pipefail
source=$1 build=$2 programs=" ${*:3} "
. "$source/tests/install/lib.sh"
model=$build/embed
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$build" && cpack -G DEB -B "$work/packages") >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

# package NAME: its file.
package() { ls "$work/packages/$1"_*.deb; }
# depends NAME PATTERN: the package's Depends match.
depends() {
  local found
  found=$(dpkg-deb -f "$(package "$1")" Depends)
  grep -qE -- "$2" <<<"$found" || die "$1 depends on '$found', expected $2"
}
# lacks NAME PATTERN: the package's Depends do not match.
lacks() {
  ! grep -iE -- "$2" <<<"$(dpkg-deb -f "$(package "$1")" Depends)" >&2 || die "$1 must not depend on $2"
}
# holds NAME PATH...: the package has these files.
holds() {
  local name=$1 path
  dpkg-deb -c "$(package "$name")" >"$work/contents"
  for path in "${@:2}" "/usr/share/doc/$1/copyright"; do
    grep -qE "^-r[w-][x-]r-[x-]r-[x-] root/root .* \.$path$|^l.* \.$path -> " "$work/contents" ||
      { cat "$work/contents" >&2; die "$name: $path is missing, or not root's and readable by all"; }
  done
}

description=$(dpkg-deb -f "$(package libbitstrata0)" Description | sed -n 1p)
[ "$description" = "runtime for low-bit neural networks" ] || die "libbitstrata0 is described as '$description'"
version=$(dpkg-deb -f "$(package libbitstrata0)" Version)
lib=/usr/lib'(/[a-z0-9_]+-linux-gnu)?'
names=(libbitstrata0 libbitstrata-dev)
holds libbitstrata0 "$lib/libbitstrata\.so\.0" "$lib/libbitstrata\.so\.[0-9.]+"
depends libbitstrata0 'libc6 \(>= .*libdnnl[0-9].*libzstd1'
lacks libbitstrata0 'torch|onnx|protobuf|python'
dpkg-deb --ctrl-tarfile "$(package libbitstrata0)" | tar x -C "$work"
grep -qx "libbitstrata 0 libbitstrata0 (>= $version)" "$work/shlibs" || die "libbitstrata0 has no shlibs line"
grep -q ldconfig "$work/postinst" || die "libbitstrata0 does not tell the loader of the new library"
holds libbitstrata-dev /usr/include/bitstrata/bitstrata.h /usr/include/bitstrata/bitstrata.hpp "$lib/libbitstrata\.so" "$lib/libbitstrata\.a" \
  "$lib/pkgconfig/bitstrata.pc" "$lib/pkgconfig/bitstrata-static.pc" "$lib/cmake/bitstrata/bitstrataConfig.cmake"
depends libbitstrata-dev "libbitstrata0 \(= $version\)"
if [[ $programs == *" bitstrata "* ]]; then
  names+=(bitstrata)
  holds bitstrata /usr/bin/bitstrata
  depends bitstrata 'libc6 \(>= .*libonnx'
  lacks bitstrata torch
fi
if [[ $programs == *" bitstrata-train "* ]]; then
  names+=(bitstrata-train)
  holds bitstrata-train /usr/libexec/bitstrata/bitstrata-train
  depends bitstrata-train "bitstrata \(= $version\).*libtorch"
fi
if [ -n "$BITSTRATA_PYTHON" ]; then
  names+=(python3-bitstrata)
  holds python3-bitstrata '/usr/lib/python3/dist-packages/bitstrata/_runtime\..*so' /usr/lib/python3/dist-packages/bitstrata/py.typed
  depends python3-bitstrata "libbitstrata0 \(= $version\).*python3-numpy"
fi
[ "$(find "$work/packages" -maxdepth 1 -name '*.deb' | wc -l)" = ${#names[@]} ] || die "found other packages than ${names[*]}: $(ls "$work/packages")"

for name in "${names[@]}"; do dpkg-deb -x "$(package "$name")" "$work/clean"; done
root=$work/clean/usr
# Nothing may come from the build folder: not by a path in a file, nor by one that the loader follows.
! find "$root" -type f -exec readelf -d {} + 2>/dev/null | grep -E 'RPATH|RUNPATH' >&2 || die "these have a search path of the build"
c_consumer "$root" "$source" "$model" "$work"
[[ $programs != *" bitstrata "* ]] || program_agrees "$root" "$model"
[ -z "$BITSTRATA_PYTHON" ] || python_agrees "$root" "$source" "$model"
