"""Runs a benchmark and checks that stdout is one JSON object with a row for each thing measured.

usage: check_json.py KEY,KEY... COMMAND...
"""

import json
import subprocess
import sys


def main():
    keys = sys.argv[1].split(",")
    output = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, check=True, text=True).stdout
    result = json.loads(output)
    if not result["cpu"] or len(result["rows"]) < 2:
        sys.exit(f"no cpu or too few rows: {output}")
    for row in result["rows"]:
        if list(row) != keys:
            sys.exit(f"expected the keys {keys}, found {list(row)}")
        if not row["ms"] > 0:
            sys.exit(f"a time that is not positive: {row}")


if __name__ == "__main__":
    main()
