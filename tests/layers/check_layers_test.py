#!/usr/bin/env python3
"""check_layers.py on small trees: a good one passes, each kind of violation is named."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from check_layers import check  # noqa: E402

GOOD = {
    "src/core/error.h": "#include <fmt/format.h>\n",
    "src/quant/weights.h": '#include "core/error.h"\n',
    "src/train/net.cpp": '#include <torch/torch.h>\n#include "quant/weights.h"\n',
    "src/onnx/import.h": "#include <string>\n",
    "apps/bitstrata/main.cpp": '#include "onnx/import.h"\n#include "local.h"\n',
    "apps/bitstrata/local.h": "",
    "docs/architecture.md": "<!-- arrows -->\n```text\ncore ->\nquant -> core\nonnx ->\ntrain -> quant\napps/bitstrata -> onnx\n```\n",
}


class CheckLayers(unittest.TestCase):
    def problems(self, **changes):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            for name, text in {**GOOD, **changes.get("files", {})}.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check(root)

    def expect(self, problem, files):
        found = self.problems(files=files)
        self.assertTrue(any(problem in line for line in found), found)

    def test_good_tree_passes(self):
        self.assertEqual(self.problems(), [])

    def test_upward_include(self):
        self.expect("core must not include quant/weights.h", {"src/core/bad.cpp": '#include "quant/weights.h"\n'})

    def test_relative_include_is_resolved(self):
        self.expect("core must not include", {"src/core/bad.cpp": '#include "../quant/weights.h"\n'})

    def test_torch_outside_train(self):
        self.expect("LibTorch header", {"src/quant/bad.cpp": "#include <torch/torch.h>\n"})

    def test_protobuf_outside_onnx(self):
        self.expect("protobuf header", {"src/quant/bad.cpp": "#include <google/protobuf/message.h>\n"})

    def test_onnx_library_outside_onnx(self):
        self.expect("ONNX header", {"src/train/bad.cpp": "#include <onnx/onnx_pb.h>\n"})

    def test_data_uses_core_only(self):
        self.expect("data must not include", {"src/data/bad.cpp": '#include "quant/weights.h"\n'})

    def test_light_executable_does_not_train(self):
        self.expect("apps/bitstrata must not include", {"src/train/net.h": "", "apps/bitstrata/bad.cpp": '#include "train/net.h"\n'})

    def test_third_party_in_shared_header(self):
        self.expect("must not include <zstd/zstd.h>", {"src/core/error.h": "#include <zstd/zstd.h>\n"})

    def test_unknown_module(self):
        self.expect("has no place", {"src/extra/a.cpp": ""})

    def test_missing_arrow(self):
        self.expect("but the includes are 'quant -> core'",
                    {"docs/architecture.md": GOOD["docs/architecture.md"].replace("quant -> core", "quant ->")})

    def test_superfluous_arrow(self):
        self.expect("but the includes are 'onnx ->'",
                    {"docs/architecture.md": GOOD["docs/architecture.md"].replace("onnx ->", "onnx -> core")})


if __name__ == "__main__":
    unittest.main()
