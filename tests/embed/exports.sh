#!/usr/bin/env bash
# exports.sh LIBRARY HEADER SONAME: proves that the library shows exactly the functions that its C header declares, under that SONAME.
set -euo pipefail
library=$1 header=$2 soname=$3

# A declaration may go on in the next line; its name stands before the first parenthesis.
declared=$(tr '\n' ' ' <"$header" | grep -oE 'BITSTRATA_API [^(;]*\(' | grep -oE 'bitstrata_[a-z_]+\($' | tr -d '(' | sort)
shown=$(nm -D --defined-only "$library" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort)
[ "$(wc -l <<<"$declared")" -ge 10 ] || { echo "found only these functions in $header: $declared" >&2; exit 1; }
diff <(echo "$declared") <(echo "$shown") >&2 || { echo "$library: < declared in $header, > exported" >&2; exit 1; }

found=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ "$found" = "$soname" ] || { echo "$library: found SONAME '$found', expected '$soname'" >&2; exit 1; }
