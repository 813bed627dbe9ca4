#pragma once

#include <cstdint>
#include <filesystem>

#include "program/program.h"

namespace bitstrata::onnx {

inline constexpr int kQdqDefaultOpset = 21;

/// What was written.
struct ExportSummary {
  uint64_t bytes = 0;  ///< of the file
  int opset = 0;       ///< of the default domain
};

/// Writes a deployed network as ONNX with QuantizeLinear and DequantizeLinear around every quantized layer
/// (docs/export.md): weights as the narrowest integers that hold them, scaled per output channel; activations
/// as unsigned integers with the program's scale and zero point, behind a Clip where their bits are fewer
/// than the type's. Everything else is float operators. An ONNX runtime thus computes the values of
/// docs/arithmetic.md up to the rounding of float sums. Dynamic batch; normalisation and class names as
/// export_float writes them, bits of every tensor of codes as "bitstrata.bits".
/// opset: 13 to 20 (8-bit types), 21 to 24 (4-bit types too), 25 (2-bit types too). Written atomically.
/// Errors: kInvalidArgument for another opset, kUnsupported naming an op that ONNX has no form for, kIo.
ExportSummary export_qdq(const program::Program& program, const std::filesystem::path& path,
                         int opset = kQdqDefaultOpset);

}  // namespace bitstrata::onnx
