#!/usr/bin/env python3
"""Puts measured figures into docs/performance.md, between its markers, and draws docs/performance.svg.

usage: tools/make_performance.py [--check]    From results/kernels.json (`bitstrata bench --kernels --json`) and
results/networks.json (`./dev bench network`). --check writes nothing and fails when the files are not what would be written.
"""
import json
import math
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCUMENT, PLOT = ROOT / "docs/performance.md", ROOT / "docs/performance.svg"
MEAN_SHAPES = ("64@56", "128@28", "256@14", "512@7")
COLOURS = {"avx2": "#4e79a7", "avx512": "#59a14f", "vnni": "#f28e2b", "amx": "#e15759", "neon": "#b07aa1"}


def pair(row):
    return f"W{row['w_bits']}A{row['a_bits']}"


def unique(values):
    return list(dict.fromkeys(values))


def table(titles, rows):
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def means(rows, isa, name):
    """Over ResNet-18's shapes, of the chosen kernels."""
    return geometric_mean(
        [r["ratio"] for r in rows if r["isa"] == isa and pair(r) == name and r["shape"] in MEAN_SHAPES and r["chosen"]])


def means_table(kernels):
    rows = kernels["rows"]
    pairs, isas = unique(map(pair, rows)), unique(r["isa"] for r in rows)
    return table(["", *pairs], [[isa, *(f"{means(rows, isa, p):.2f}x" for p in pairs)] for isa in isas])


def cells_table(kernels):
    rows = [r for r in kernels["rows"] if r["chosen"]]
    pairs = unique(map(pair, rows))
    lines = []
    for isa in unique(r["isa"] for r in rows):
        for shape in unique(r["shape"] for r in rows):
            cells = {pair(r): r for r in rows if r["isa"] == isa and r["shape"] == shape}
            peer = min(r["onednn_int8_us"] for r in cells.values())
            lines.append([isa, shape, f"{peer:.1f}", *(f"{cells[p]['us']:.1f} {cells[p]['kernel']}" for p in pairs)])
    return table(["", "shape", "oneDNN int8", *pairs], lines)


def networks_table(networks):
    lines = []
    for row in networks["rows"]:
        peer = row["ratio_to_ort_int8"]
        faster = f"{1 / peer:.2f}x" if peer else "-"
        lines.append([row["network"], str(row["batch"]), str(row["threads"]), row["runner"], f"{row['ms']:.3f}", faster,
                      f"{row['network_mib']:.0f}", f"{row['peak_mib']:.0f}"])
    return table(["network", "batch", "threads", "", "ms per image", "against ONNX Runtime int8",
                  "MiB of the network", "of the process"], lines)


def machine(kernels):
    return f"{kernels['cpu']}, {kernels['threads']} thread, batch {kernels['batch']}."


def plot(kernels):
    """Bars of the means over ResNet-18's shapes, a group per pair of bits; the line is oneDNN int8."""
    rows = kernels["rows"]
    pairs, isas = unique(map(pair, rows)), unique(r["isa"] for r in rows)
    values = {(i, p): means(rows, i, p) for i in isas for p in pairs}
    top = math.ceil(max(values.values()))
    left, width, height, bar = 40, 640, 260, 20
    group = (width - left) / len(pairs)

    def y(value):
        return 30 + (height - 60) * (1 - value / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for tick in range(top + 1):
        shade = "#333" if tick == 1 else "#ddd"
        parts.append(f'<line x1="{left}" x2="{width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="{shade}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}x</text>')
    for g, name in enumerate(pairs):
        start = left + g * group + (group - bar * len(isas)) / 2
        for i, isa in enumerate(isas):
            at = y(values[isa, name])
            parts.append(f'<rect x="{start + i * bar:.1f}" y="{at:.1f}" width="{bar - 2}" height="{y(0) - at:.1f}" '
                         f'fill="{COLOURS[isa]}"><title>{isa} {name}: {values[isa, name]:.2f}x</title></rect>')
        parts.append(f'<text x="{left + (g + 0.5) * group:.1f}" y="{height - 12}" text-anchor="middle">{name}</text>')
    for i, isa in enumerate(isas):
        x = width - 90 * (len(isas) - i)
        parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{COLOURS[isa]}"/><text x="{x + 17}" y="18">{isa}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def fill(document, name, text):
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = document.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}{text}\n{end}{after}"


def main():
    kernels = json.loads((ROOT / "results/kernels.json").read_text())
    networks = json.loads((ROOT / "results/networks.json").read_text())
    document = DOCUMENT.read_text()
    for name, text in (("machine", machine(kernels)), ("means", means_table(kernels)), ("cells", cells_table(kernels)),
                       ("networks", networks_table(networks))):
        document = fill(document, name, text)
    wanted = {DOCUMENT: document, PLOT: plot(kernels)}
    if sys.argv[1:] == ["--check"]:
        stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        if stale:
            sys.exit(f"{', '.join(stale)}: not made from results/*.json; run tools/make_performance.py")
    else:
        for path, text in wanted.items():
            path.write_text(text)


if __name__ == "__main__":
    main()
