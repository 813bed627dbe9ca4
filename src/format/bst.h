#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "program/program.h"

/// model.bst, the packed model file: docs/format.md describes it byte by byte.
namespace bitstrata::format {

/// Serialises a valid program. Deterministic: equal programs give equal bytes.
std::vector<uint8_t> encode(const program::Program& program);

/// Parses and validates. `name` is used in messages only. Throws kCorruptFile (truncated, flipped, oversized,
/// inconsistent: with the offset or section), kUnsupported for a newer format version. Memory use is bounded
/// by a small multiple of bytes.size().
program::Program decode(std::span<const uint8_t> bytes, const std::string& name);

/// decode() of a file; kIo and kBadInput as read_file.
program::Program read(const std::filesystem::path& path);

/// encode() to a file, atomically.
void write(const std::filesystem::path& path, const program::Program& program);

/// True when the bytes start like a .bst file.
bool looks_like_bst(std::span<const uint8_t> bytes) noexcept;

}  // namespace bitstrata::format
