#!/usr/bin/env python3
"""Makes src/data/digits_data.inc from digits.csv.gz (64 values 0..16 and the label per line).

Usage: tools/make_digits.py digits.csv.gz > src/data/digits_data.inc
"""
import csv
import gzip
import sys

HEADER = """\
// Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
// doi:10.24432/C50P49, licence CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Repacked as text, values unchanged.
// One image per line: the label, then 64 pixels row by row, 'A' + value, values 0..16. Made by tools/make_digits.py.
"""


def encode(row):
    *pixels, label = map(int, row)
    if len(pixels) != 64 or not all(0 <= p <= 16 for p in pixels) or not 0 <= label <= 9:
        raise ValueError(f"not a digit: {row}")
    return f'"{label}' + "".join(chr(ord("A") + p) for p in pixels) + '",'


def main():
    with gzip.open(sys.argv[1], "rt", newline="") as file:
        lines = [encode(row) for row in csv.reader(file)]
    sys.stdout.write(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
