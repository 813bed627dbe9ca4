#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace bitstrata::onnx {

struct Options {
  /// Per-image dims of the input, [C, H, W], used where the file leaves them open; empty: the file must say.
  program::Dims input_dims;
  /// Whether the network may have quantizers of its own (graph::has_quantizers); otherwise one is
  /// kUnsupported.
  bool quantizers = false;
};

/// Reads an ONNX file (opsets 7 to 25, external data beside it) into a normalised Graph: constants folded,
/// identities and dropout gone, Split as Slices, Gemm and constant MatMul as Linear, constant per-channel
/// Add/Sub/Mul/Div as Affine, BatchNormalization kept. QuantizeLinear and DequantizeLinear, QLinearConv and
/// other operators on integers, and QONNX's Quant, IntQuant and BipolarQuant, become Quantize nodes and integers of layers (docs/import.md). Errors,
/// one line naming node and operator: kUnsupported (operator, attribute, type, opset, with what is
/// supported), kCorruptFile (protobuf, truncated or out-of-range external data), kBadInput (shapes that
/// contradict each other), kIo.
graph::Graph import_file(const std::filesystem::path& path, const Options& options = {});

/// As import_file, from memory; external data is refused. `name` is used in messages.
graph::Graph import_bytes(std::span<const uint8_t> bytes, const std::string& name,
                          const Options& options = {});

}  // namespace bitstrata::onnx
