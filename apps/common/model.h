#pragma once

#include <cstdint>
#include <filesystem>

#include "program/program.h"

namespace bitstrata::cli {

/// A network file, ready to be prepared for this machine.
struct NetworkFile {
  std::filesystem::path path;
  uint64_t file_bytes = 0;
  bool is_packed = false;     ///< .bst rather than ONNX
  bool is_quantized = false;  ///< packed, or ONNX with quantizers
  program::Program program;
};

/// Reads model.bst, or an ONNX file: as compile::lower_quantized has it when it has quantizers, otherwise as a
/// float network. Told apart by name and first bytes. Errors as
/// format::read and onnx::import_file.
NetworkFile load_network(const std::filesystem::path& path);

/// Number of classes: the elements of the only output. kUnsupported unless the network has one float32 output
/// per class and image.
int64_t num_outputs(const program::Program& program);

}  // namespace bitstrata::cli
