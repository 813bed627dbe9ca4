#!/usr/bin/python3
"""Time per image and memory of whole networks: bitstrata's float and low-bit ones beside ONNX Runtime's float and int8 ones.

usage: run.py BUILD_FOLDER [--quick]      A table on stderr; on stdout one JSON object. Peers that are missing are left out by name.
"""

import argparse
import json
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
OUR_RESNET20 = HERE.parents[2] / "shared" / "models" / "resnet20-cifar10.onnx"
PYTHON = "/usr/bin/python3"  # where Debian's python3-onnx is
WIDTHS = (8, 4, 2, 1)
CAPPED_WIDTHS = (4, 2)  # also measured with the instruction set held to CAP
CAP = "avx2"
SECONDS = 0.5  # as `bitstrata bench`


def note(text):
    print(text, file=sys.stderr, flush=True)


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


class Peers:
    """What of ONNX Runtime is there."""

    def __init__(self, judge):
        self.modules = judge / "node_modules"
        self.runtime = self.quantizer = True
        if not shutil.which("node"):
            self.runtime = self.missing("ONNX Runtime", "node is missing")
        elif not (judge / "installed").exists():
            self.runtime = self.missing("ONNX Runtime", f"no onnxruntime-node in {judge}; './dev setup' installs it")
        elif subprocess.run([PYTHON, "-c", "import onnx"], capture_output=True).returncode != 0:
            self.quantizer = self.missing("ONNX Runtime int8", f"{PYTHON} has no module onnx; install python3-onnx")

    @staticmethod
    def missing(name, reason):
        note(f"skipped: {name}: {reason}")
        return False


def bitstrata_runner(program, model, isa=None):
    cap = ["--isa", isa] if isa else []

    def measure(batch, threads):
        return json.loads(run(program, "bench", model, "--batch", batch, "--threads", threads, "--json", *cap))

    return measure


def ort_runner(modules, model):
    def measure(batch, threads):
        return json.loads(run("node", HERE / "run_ort.js", modules, model, batch, threads, SECONDS))

    return measure


def make_runners(source, folder, programs, peers):
    """Runners by name. source: an .onnx file, or the name of a built-in network."""
    run(programs / "make_bench_models", source, folder, *WIDTHS)
    float_model = source if isinstance(source, pathlib.Path) else folder / "float.onnx"
    runners = {"bitstrata float": bitstrata_runner(programs / "bitstrata", float_model)}
    for width in WIDTHS:
        runners[f"bitstrata w{width}a{width}"] = bitstrata_runner(programs / "bitstrata", folder / f"w{width}a{width}.bst")
    if platform.machine() == "x86_64":
        for width in CAPPED_WIDTHS:
            runners[f"bitstrata w{width}a{width} {CAP}"] = bitstrata_runner(programs / "bitstrata", folder / f"w{width}a{width}.bst", CAP)
    if peers.runtime:
        runners["onnxruntime float"] = ort_runner(peers.modules, float_model)
    if peers.runtime and peers.quantizer:
        run(PYTHON, HERE / "quantize_onnx.py", float_model, folder / "int8.onnx")
        runners["onnxruntime int8"] = ort_runner(peers.modules, folder / "int8.onnx")
    return runners


def measure(network, runners, batch, threads, rounds):
    """Rows of one setting. The runners take turns, so that a drift of the machine meets them all; each turn is a process."""
    turns = {name: [] for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            turns[name].append(runner(batch, threads))

    def median(key):
        return {name: statistics.median(turn[key] for turn in turns[name]) for name in runners}

    ms = {name: value / batch for name, value in median("median_ms").items()}
    peak_mib, network_mib = median("peak_mib"), median("network_mib")

    def ratio(name, peer):
        return round(ms[name] / ms[peer], 4) if peer in ms else None

    return [
        {
            "network": network,
            "batch": batch,
            "threads": threads,
            "runner": name,
            "ms": round(ms[name], 6),
            "ratio_to_ort_int8": ratio(name, "onnxruntime int8"),
            "ratio_to_ort_float": ratio(name, "onnxruntime float"),
            "peak_mib": round(peak_mib[name], 1),
            "network_mib": round(network_mib[name], 1),
        }
        for name in runners
    ]


def table(rows):
    lines = [["network", "batch", "threads", "runner", "ms/image", "/ ort int8", "/ ort float", "peak MiB", "network MiB"]]
    for row in rows:
        ratios = [row["ratio_to_ort_int8"], row["ratio_to_ort_float"]]
        lines.append(
            [row["network"], str(row["batch"]), str(row["threads"]), row["runner"], f"{row['ms']:.4f}"]
            + ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
            + [f"{row['peak_mib']:.1f}", f"{row['network_mib']:.1f}"]
        )
    widths = [max(map(len, column)) for column in zip(*lines)]
    left = {0, 3}
    return "\n".join(
        "  ".join(cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path, help="build folder")
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    arguments = parser.parse_args()
    judge = arguments.build / "judge"
    peers = Peers(judge)
    networks = [("resnet20", OUR_RESNET20 if OUR_RESNET20.exists() else "resnet20", (1, 64))]
    if (judge / "resnet18.onnx").exists():
        networks.append(("resnet18", judge / "resnet18.onnx", (1,)))
    else:
        note(f"skipped: resnet18: no {judge / 'resnet18.onnx'}; './dev setup' exports it where python3-torchvision is")
    settings = [(network, batch, threads) for network in networks for batch in network[2] for threads in (1, 2)]
    if arguments.quick:
        settings = settings[:1]
    rounds = 1 if arguments.quick else 3
    rows, made = [], {}
    for (name, source, _), batch, threads in settings:
        if name not in made:
            made[name] = make_runners(source, arguments.build / "bench" / "models" / name, arguments.build / "bin", peers)
        note(f"measuring {name}, batch {batch}, {threads} threads")
        rows += measure(name, made[name], batch, threads, rounds)
    note(table(rows))
    print(json.dumps({"cpu": cpu_name(), "rows": rows}))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"run.py: error: {error}")
