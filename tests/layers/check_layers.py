#!/usr/bin/env python3
"""Checks who includes whom: check_layers.py ROOT; with --write, redraws the arrows in docs/architecture.md.

Modules are the folders of src/ and apps/. A module may include only modules before it in ORDER (less EXCEPTIONS), third-party headers of
the heavy libraries only where HEAVY allows, headers that other modules include carry no third-party types but fmt's, and the arrows drawn
in docs/architecture.md are exactly the includes that exist. Prints every violation; exit status 1 if there is one.
"""

import re
import sys
from pathlib import Path

ORDER = ["core", "quant", "program", "kernels", "format", "runtime", "capi", "graph", "onnx", "plan", "search", "compile", "data", "train", "evaluators",
         "apps/common", "apps/bitstrata", "apps/bitstrata-train"]
# Pairs (from, to) that the order alone would allow.
EXCEPTIONS = {("plan", "onnx"), ("apps/common", "train"), ("apps/bitstrata", "train"), ("apps/bitstrata-train", "apps/bitstrata")}
ONLY = {"data": {"core"}, "search": {"core", "quant", "graph", "plan"}}
HEAVY = {
    "LibTorch": (re.compile(r"^(torch|ATen|c10|caffe2)/"), {"train", "evaluators", "apps/bitstrata-train"}),
    "ONNX": (re.compile(r"^onnx/"), {"onnx"}),
    "protobuf": (re.compile(r"^google/protobuf/"), {"onnx"}),
}
# Command line headers are shared inside apps/ only, where JSON and CLI11 are part of the vocabulary.
SHARED_HEADER_LIBRARIES = {"fmt"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
SOURCES = {".h", ".cpp", ".inc"}


def includes(path):
    """(is_quoted, header) of every include line of a file."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = INCLUDE.match(line)
        if match:
            yield match.group(1) == '"', match.group(2)


def module_files(root):
    """(module, path) of every source file."""
    for base, prefix in ((root / "src", ""), (root / "apps", "apps/")):
        for path in sorted(base.glob("*/**/*")):
            if path.is_file() and path.suffix in SOURCES:
                yield prefix + path.relative_to(base).parts[0], path


def own_header(root, path, header):
    """The (module, file) that a quoted include means, or None for another library's."""
    for base, prefix in ((path.parent, None), (root / "src", ""), (root / "apps", "apps/")):
        candidate = (base / header).resolve()
        if not candidate.is_file():
            continue
        for top, name in ((root / "src", ""), (root / "apps", "apps/")):
            if candidate.is_relative_to(top.resolve()):
                return name + candidate.relative_to(top.resolve()).parts[0], candidate
    return None


def allowed(user, used):
    if user not in ORDER or used not in ORDER:
        return False
    if user in ONLY and used not in ONLY[user]:
        return False
    return ORDER.index(used) < ORDER.index(user) and (user, used) not in EXCEPTIONS


def check_tree(root):
    """(violations, arrows); arrows: module -> set of modules it includes."""
    problems, arrows, shared = [], {}, set()
    for module, path in module_files(root):
        where = path.relative_to(root)
        arrows.setdefault(module, set())
        if module not in ORDER:
            problems.append(f"{where}: module {module} has no place in the order of check_layers.py")
        for quoted, header in includes(path):
            own = own_header(root, path, header) if quoted else None
            if own and own[0] != module:
                arrows[module].add(own[0])
                if not module.startswith("apps/"):
                    shared.add(own[1])
                if not allowed(module, own[0]):
                    problems.append(f"{where}: {module} must not include {header} of {own[0]}")
            if not own:
                for library, (pattern, users) in HEAVY.items():
                    if pattern.match(header) and module not in users:
                        problems.append(f"{where}: {library} header {header} is allowed only in {', '.join(sorted(users))}")
    problems += check_shared_headers(root, shared)
    return problems, arrows


def check_shared_headers(root, shared):
    problems = []
    for path in sorted(shared):
        if path.is_relative_to((root / "src" / "train").resolve()):
            continue
        for quoted, header in includes(path):
            is_standard = "/" not in header and "." not in header
            if not quoted and not is_standard and header.split("/")[0] not in SHARED_HEADER_LIBRARIES:
                problems.append(f"{path.relative_to(root.resolve())}: a header that other modules include must not include <{header}>")
    return problems


def drawn_arrows(text):
    """The lines 'module -> a b c' of the block after the line '<!-- arrows -->'."""
    block = re.search(r"<!-- arrows -->\s*```\w*\n(.*?)```", text, re.S)
    if not block:
        return None
    arrows = {}
    for line in block.group(1).splitlines():
        if line.strip():
            user, _, used = line.partition("->")
            arrows[user.strip()] = set(used.split())
    return arrows


def check_drawing(root, arrows):
    drawn = drawn_arrows((root / "docs" / "architecture.md").read_text(encoding="utf-8"))
    if drawn is None:
        return ["docs/architecture.md: no block of arrows after '<!-- arrows -->'"]
    problems = []
    for module in sorted(set(drawn) | set(arrows)):
        has, shows = arrows.get(module, set()), drawn.get(module, set())
        if has != shows or (module in arrows) != (module in drawn):
            problems.append(f"docs/architecture.md: draws '{arrow_line(module, shows)}', but the includes are '{arrow_line(module, has)}'")
    return problems


def arrow_line(module, used):
    return f"{module} -> {' '.join(m for m in ORDER if m in used)}".rstrip()


def write_drawing(root):
    arrows = check_tree(root)[1]
    path = root / "docs" / "architecture.md"
    lines = "".join(arrow_line(module, arrows[module]) + "\n" for module in ORDER if module in arrows)
    text = re.sub(r"(<!-- arrows -->\s*```\w*\n).*?```", lambda match: match.group(1) + lines + "```", path.read_text(), flags=re.S)
    path.write_text(text)


def check(root):
    problems, arrows = check_tree(root)
    return problems + check_drawing(root, arrows)


def main():
    root = Path(sys.argv[1]).resolve()
    if "--write" in sys.argv[2:]:
        write_drawing(root)
    problems = check(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
