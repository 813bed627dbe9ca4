#pragma once

#include <filesystem>

namespace bitstrata::testing {

/// Replaces every Quant and BipolarQuant node of a QONNX file by standard operators that spell out its
/// definition, so that any ONNX runtime can execute it: round(clip(x / scale + zero_point, low, high)), (q -
/// zero_point) * scale; x >= 0 ? scale : -scale. Throws for attributes and custom operators outside that
/// definition.
void replace_quant_nodes(const std::filesystem::path& path);

}  // namespace bitstrata::testing
