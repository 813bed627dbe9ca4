# What install.sh and packages.sh share. $root holds an installation: $root/bin, $root/include, and so on.

die() {
  echo "error: $*" >&2
  exit 1
}

need_file() { for file in "$@"; do [ -e "$file" ] || die "$file is missing"; done; }

# library_folder ROOT: where libbitstrata.so.0 lies.
library_folder() {
  local found
  found=$(find "$1/lib" -name libbitstrata.so.0)
  [ -n "$found" ] || die "no libbitstrata.so.0 below $1/lib"
  dirname "$found"
}

# c_consumer ROOT SOURCE MODEL WORK: compiles the C example with what pkg-config says, and runs it.
c_consumer() {
  local root=$1 source=$2 model=$3 work=$4 folder flags
  folder=$(library_folder "$root")
  flags=$(PKG_CONFIG_LIBDIR=$folder/pkgconfig pkg-config --cflags --libs bitstrata)
  # shellcheck disable=SC2086
  "$CC" -std=c99 -Wall -Wextra -Wpedantic -Werror "$source/examples/classify.c" $flags -o "$work/classify_c"
  ldd_folder=$(LD_LIBRARY_PATH=$folder ldd "$work/classify_c" | sed -n 's/.*libbitstrata.so.0 => \(.*\)\/libbitstrata.so.0 .*/\1/p')
  [ "$(realpath "$ldd_folder")" = "$(realpath "$folder")" ] || die "the C consumer loads libbitstrata from $ldd_folder, expected $folder"
  LD_LIBRARY_PATH=$folder "$source/tests/install/compare.sh" "$model" "$work/classify_c"
}

# archive_consumer ROOT SOURCE MODEL WORK: links the examples with libbitstrata.a, by find_package and by pkg-config, and runs them.
archive_consumer() {
  local root=$1 source=$2 model=$3 work=$4 folder flags program
  folder=$(library_folder "$root")
  mkdir "$work/archive"
  cp "$source"/examples/classify.{c,cpp} "$work/archive"
  echo 'cmake_minimum_required(VERSION 3.16)
project(archive LANGUAGES C CXX)
set(CMAKE_CXX_STANDARD 20)
find_package(bitstrata 0.1 REQUIRED)
foreach(suffix IN ITEMS c cpp)
  add_executable(archive_${suffix} classify.${suffix})
  target_link_libraries(archive_${suffix} PRIVATE bitstrata::bitstrata_static)
endforeach()' >"$work/archive/CMakeLists.txt"
  cmake -S "$work/archive" -B "$work/archive" -DCMAKE_PREFIX_PATH="$root" >"$work/log" && cmake --build "$work/archive" >>"$work/log" ||
    { cat "$work/log" >&2; return 1; }
  flags=$(PKG_CONFIG_LIBDIR=$folder/pkgconfig pkg-config --cflags --libs bitstrata-static)
  # shellcheck disable=SC2086
  "$CC" -std=c99 "$source/examples/classify.c" $flags -o "$work/archive/archive_pc"
  for program in "$work"/archive/archive_{c,cpp,pc}; do
    ! readelf -d "$program" | grep -F libbitstrata >&2 || die "$program loads libbitstrata.so"
    "$source/tests/install/compare.sh" "$model" "$program"
  done
  # Where nothing but archives is to be linked, pkg-config --static names them.
  [[ " $(PKG_CONFIG_LIBDIR=$folder/pkgconfig pkg-config --static --libs bitstrata) " == *" -lbitstrata "*" -ldnnl "* ]] ||
    die "pkg-config --static --libs bitstrata lacks what libbitstrata.a needs"
}

# program_agrees ROOT MODEL: the installed program gives the scores expected, and finds bitstrata-train if that is there.
program_agrees() {
  local root=$1 model=$2 found
  found=$("$root/bin/bitstrata" run "$model/model.bst" "$model/image.npy" --json |
    python3 -c 'import json, sys
for i, score in enumerate(json.load(sys.stdin)["outputs"][0]["logits"]): print(i, "%.4f" % score)')
  diff <(awk '{printf "%d %.4f\n", $1, $2}' "$model/expected.txt") <(echo "$found") >&2 || die "< expected, > bitstrata run"
  if [ -e "$root/libexec/bitstrata/bitstrata-train" ]; then
    [[ $("$root/bin/bitstrata" compress --help) == *--target* ]] || die "$root/bin/bitstrata compress --help does not reach bitstrata-train"
  fi
}

# python_agrees ROOT SOURCE MODEL: the installed module runs the example.
python_agrees() {
  local root=$1 source=$2 model=$3
  PYTHONPATH=$root/lib/python3/dist-packages LD_LIBRARY_PATH=$(library_folder "$root") \
    "$source/tests/install/compare.sh" "$model" "$BITSTRATA_PYTHON" -B "$source/examples/classify.py"
}
