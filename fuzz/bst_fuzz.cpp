// Reader of model.bst: any bytes are refused with an Error or decode to a program that survives the next
// round trip unchanged.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "format/bst.h"
#include "format/container.h"
#include "format/metadata.h"
#include "tests/unit/format/program_difference.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace bitstrata;
using format::Compression;

void require(bool holds, const char* what) {
  if (holds) return;
  __builtin_printf("violated: %s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  program::Program decoded;
  try {
    decoded = format::decode({data, size}, "fuzz");
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kCorruptFile || error.code() == ErrorCode::kUnsupported,
            "refusal has the right code");
    require(std::string(error.what()).find('\n') == std::string::npos, "refusal is one line");
    return 0;
  }
  // FlatBuffers and zstd allow other spellings of the same content, so the first re-encoding fixes the bytes.
  // Uncompressed, as the slow part is zstd.
  const auto bytes = format::pack_sections(format::write_program(decoded), Compression::kNone);
  const auto again = format::decode(bytes, "fuzz");
  require(format::first_difference(decoded, again).empty(), "decode(encode(p)) == p");
  require(format::pack_sections(format::write_program(again), Compression::kNone) == bytes,
          "encode(decode(bytes)) == bytes");
  return 0;
}

/// Changes one section's raw content and makes sizes and checksums right again, or, one time in eight,
/// changes the file as it is.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  if (seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  try {
    auto sections = format::unpack_sections({data, size}, "fuzz");
    auto& section = seed % 8 < 6 ? sections.metadata : seed % 8 == 6 ? sections.weights : sections.floats;
    const size_t old_size = section.size();
    section.resize(std::max<size_t>(old_size + 64, old_size + old_size / 4));
    section.resize(LLVMFuzzerMutate(section.data(), old_size, section.size()));
    const auto bytes =
        format::pack_sections(sections, seed % 64 == 1 ? Compression::kBest : Compression::kNone);
    if (bytes.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
    std::copy(bytes.begin(), bytes.end(), data);
    return bytes.size();
  } catch (const Error&) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
}
