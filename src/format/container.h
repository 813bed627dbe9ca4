#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

/// The outer layer of model.bst: header, checksums and compression of three sections (docs/format.md). Knows
/// nothing of programs.
namespace bitstrata::format {

/// Newest format version, the one written; all versions from 1 to this are read.
inline constexpr uint32_t kVersion = 1;

/// Size of the header in bytes.
inline constexpr size_t kHeaderBytes = 128;

/// Largest raw metadata section, in bytes.
inline constexpr uint64_t kMaxMetadataBytes = 64u << 20;

/// Largest raw size of a compressed section of `stored_bytes`.
constexpr uint64_t max_raw_bytes(uint64_t stored_bytes) noexcept {
  return (64u << 10) + 16 * stored_bytes;
}

/// Raw (decompressed) content of the sections.
struct Sections {
  std::vector<uint8_t> metadata;
  std::vector<uint8_t> weights;
  std::vector<uint8_t> floats;
};

/// Whether pack_sections() compresses what gets smaller by it.
enum class Compression { kNone, kBest };

/// Builds a file from its sections. kUnsupported when the metadata exceeds kMaxMetadataBytes.
std::vector<uint8_t> pack_sections(const Sections& sections, Compression compression);

/// Checks magic, version, sizes and checksums and decompresses. `name` is used in messages. kCorruptFile;
/// kUnsupported for a version beyond kVersion. Allocates at most max_raw_bytes() of each section, after
/// checking it.
Sections unpack_sections(std::span<const uint8_t> bytes, const std::string& name);

}  // namespace bitstrata::format
