#!/usr/bin/env bash
# library_is_light.sh LIBRARY: proves that the runtime library neither links nor refers to anything of the tools side.
set -euo pipefail
library=$1
forbidden_libraries='torch|c10|onnx|protobuf|glog|gloo'
forbidden_symbols='^_Z[A-Z]*(5torch|2at|3c10|4onnx|6google|4gloo)|(^|[^a-z])(torch|c10|onnx|google::protobuf|gloo)::'
failed=0

complain() {
  echo "$library $1:" >&2
  printf '%s\n' "$2" >&2
  failed=1
}

needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
[ -n "$needed" ] || complain "names no library it needs, which cannot be" "-"
if found=$(grep -iE "$forbidden_libraries" <<<"$needed"); then complain "needs" "$found"; fi

mapped=$(ldd "$library" | sed 's/ (0x[0-9a-f]*)$//')  # a load address may spell a forbidden name
if grep -q 'not found' <<<"$mapped"; then complain "does not load" "$mapped"; fi
if found=$(grep -iE "$forbidden_libraries" <<<"$mapped"); then complain "loads" "$found"; fi

symbols=$(nm -D "$library" | awk '{print $NF}')
grep -q 'bitstrata' <<<"$symbols" || complain "exports nothing of bitstrata" "-"
if found=$(grep -E "$forbidden_symbols" <<<"$(printf '%s\n' "$symbols"; c++filt <<<"$symbols")"); then
  complain "refers to" "$(head -n 20 <<<"$found")"
fi
exit $failed
