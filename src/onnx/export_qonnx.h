#pragma once

#include <filesystem>

#include "onnx/export_qdq.h"
#include "program/program.h"

namespace bitstrata::onnx {

inline constexpr int kQonnxDefaultOpset = 13;

/// Writes a deployed network as QONNX, for FINN, hls4ml and the qonnx tools (docs/export.md): float
/// operators, and nodes Quant and BipolarQuant of domain qonnx.custom_op.general that carry bits, scale and
/// zero point of every activation and weight. Zero points of weights are 0: the odd grids count as narrow
/// signed integers of one bit more, 1-bit weights are bipolar. Otherwise as export_qdq. opset: 13 to 25, of
/// the default domain. Errors as export_qdq.
ExportSummary export_qonnx(const program::Program& program, const std::filesystem::path& path,
                           int opset = kQonnxDefaultOpset);

}  // namespace bitstrata::onnx
