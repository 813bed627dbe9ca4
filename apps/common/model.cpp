#include "common/model.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "compile/lower.h"
#include "core/error.h"
#include "format/bst.h"
#include "onnx/import.h"

namespace bitstrata::cli {
namespace {

bool is_bst(const std::filesystem::path& path) {
  if (path.extension() == ".bst") return true;
  std::array<char, 16> start{};
  std::ifstream file(path, std::ios::binary);
  file.read(start.data(), start.size());
  const auto* bytes = reinterpret_cast<const uint8_t*>(start.data());
  return format::looks_like_bst({bytes, static_cast<size_t>(file.gcount())});
}

uint64_t regular_file_bytes(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    const std::string reason = error ? error.message() : std::strerror(ENOENT);
    fail(ErrorCode::kIo, "network {} cannot be read: {}", printable(path.string()), reason);
  }
  if (!std::filesystem::is_regular_file(status)) {
    fail(ErrorCode::kBadInput, "{} is not a file, expected a network (.onnx or .bst)",
         printable(path.string()));
  }
  const uint64_t bytes = std::filesystem::file_size(path, error);
  if (error) fail(ErrorCode::kIo, "network {} cannot be read: {}", printable(path.string()), error.message());
  return bytes;
}

}  // namespace

NetworkFile load_network(const std::filesystem::path& path) {
  NetworkFile network;
  network.path = path;
  network.file_bytes = regular_file_bytes(path);
  network.is_packed = is_bst(path);
  network.is_quantized = network.is_packed;
  if (network.is_packed) {
    network.program = format::read(path);
    return network;
  }
  onnx::Options options;
  options.quantizers = true;
  const graph::Graph graph = onnx::import_file(path, options);
  network.is_quantized = graph::has_quantizers(graph);
  network.program =
      network.is_quantized ? compile::lower_quantized(graph).program : compile::lower_float(graph);
  return network;
}

int64_t num_outputs(const program::Program& program) {
  if (program.outputs.size() != 1) {
    fail(ErrorCode::kUnsupported, "the network has {} outputs, but only classifiers with one are handled",
         program.outputs.size());
  }
  return program::elements(program.tensors[static_cast<size_t>(program.outputs[0])].dims);
}

}  // namespace bitstrata::cli
