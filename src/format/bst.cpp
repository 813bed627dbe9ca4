#include "format/bst.h"

#include "core/error.h"
#include "core/file.h"
#include "format/container.h"
#include "format/metadata.h"

namespace bitstrata::format {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;

}  // namespace

std::vector<uint8_t> encode(const program::Program& program) {
  // A file that cannot be read back must never be written.
  program::validate(program);
  return pack_sections(write_program(program), Compression::kBest);
}

program::Program decode(std::span<const uint8_t> bytes, const std::string& name) {
  program::Program program = read_program(unpack_sections(bytes, name), name);
  try {
    program::validate(program);
  } catch (const Error& error) {
    fail(error.code(), "{}: {}", name, error.what());
  }
  return program;
}

program::Program read(const std::filesystem::path& path) {
  return decode(read_file(path, kMaxFileBytes), path.string());
}

void write(const std::filesystem::path& path, const program::Program& program) {
  write_file_atomically(path, encode(program));
}

}  // namespace bitstrata::format
