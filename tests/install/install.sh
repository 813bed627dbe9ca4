#!/usr/bin/env bash
# install.sh SOURCE BUILD [PROGRAM...]: installs BUILD, moves the installation, then compiles and runs consumers in C (pkg-config) and
# C++ (find_package), with the shared library and with the archive, and the programs from there.
set -euo pipefail
source=$1 build=$2 programs=" ${*:3} "
. "$source/tests/install/lib.sh"
model=$build/embed
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Components, because a whole installation would want targets that a partial build lacks; together they are all there is.
components=(runtime development)
[[ $programs != *" bitstrata "* ]] || components+=(tools)
[[ $programs != *" bitstrata-train "* ]] || components+=(training)
[ -z "$BITSTRATA_PYTHON" ] || components+=(python)
for component in "${components[@]}"; do
  cmake --install "$build" --prefix "$work/first" --component "$component" >>"$work/log" || { cat "$work/log" >&2; exit 1; }
done
root=$work/moved
mv "$work/first" "$root"
need_file "$root"/include/bitstrata/{bitstrata.h,bitstrata.hpp,version.h} "$root/share/doc/libbitstrata-dev/examples/classify.c"
! grep -rlF "$build" "$root/include" "$root/share" "$(library_folder "$root")/cmake" >&2 || die "these files name the build folder"

c_consumer "$root" "$source" "$model" "$work"

cmake -S "$root/share/doc/libbitstrata-dev/examples" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$root" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_FLAGS="-Wall -Wextra -Wpedantic -Werror" >"$work/log" && cmake --build "$work/consumer" >>"$work/log" ||
  { cat "$work/log" >&2; exit 1; }
"$source/tests/install/compare.sh" "$model" "$work/consumer/classify_cpp"
"$source/tests/install/compare.sh" "$model" "$work/consumer/classify_c"

archive_consumer "$root" "$source" "$model" "$work"

# Another minor version is refused before 1.0.
mkdir "$work/other"
echo 'cmake_minimum_required(VERSION 3.16)
project(other LANGUAGES C)
find_package(bitstrata 0.0 REQUIRED)' >"$work/other/CMakeLists.txt"
! cmake -S "$work/other" -B "$work/other/build" -DCMAKE_PREFIX_PATH="$root" >"$work/log" 2>&1 || die "find_package(bitstrata 0.0) was accepted"
grep -q 'compatible with requested version "0.0"' "$work/log" || { cat "$work/log" >&2; exit 1; }

[[ $programs != *" bitstrata "* ]] || program_agrees "$root" "$model"
[ -z "$BITSTRATA_PYTHON" ] || python_agrees "$root" "$source" "$model"
