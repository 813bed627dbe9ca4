#pragma once

#include <filesystem>

#include "graph/graph.h"

namespace bitstrata::onnx {

/// Writes a float graph as ONNX opset 17 (dynamic batch, input "input", outputs as named), atomically.
/// Normalisation and class names go into metadata_props "bitstrata.mean", "bitstrata.std",
/// "bitstrata.classes" (JSON arrays), which import_file reads back.
void export_float(const graph::Graph& graph, const std::filesystem::path& path);

}  // namespace bitstrata::onnx
