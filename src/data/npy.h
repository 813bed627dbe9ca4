#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace bitstrata::data {

/// A NumPy array as stored in a .npy file: C order, little endian.
struct NpyArray {
  char kind = 'f';             ///< 'f' float, 'i' signed, 'u' unsigned
  int item_bytes = 4;          ///< f: 2, 4, 8; i and u: 1, 2, 4, 8
  std::vector<int64_t> shape;  ///< each >= 0; empty for a scalar
  std::vector<uint8_t> bytes;  ///< the elements, last axis fastest

  int64_t num_elems() const noexcept;
  /// "<f4", "|u1" and so on.
  std::string dtype() const;
  /// The elements as int64. kBadInput, naming `where`, when they are not integers or exceed int64.
  std::vector<int64_t> to_int64(const std::string& where) const;
  /// The elements as float32. kBadInput, naming `where`, when the type is not float32 or one is not finite.
  std::vector<float> to_float(const std::string& where) const;
};

/// Parses a .npy file of format version 1.0 or 2.0. kCorruptFile when the header or its shape contradicts the
/// number of bytes (checked before memory is taken); kUnsupported for other versions, types, big-endian or
/// Fortran order. `name` is the file named in errors.
NpyArray parse_npy(std::span<const uint8_t> bytes, const std::string& name);

/// parse_npy of a file's content. Also kIo when it cannot be read.
NpyArray read_npy(const std::filesystem::path& path);

/// The bytes of a .npy file (version 1.0, header padded to 64 bytes as NumPy does).
std::vector<uint8_t> serialize_npy(const NpyArray& array);

/// Writes `values` as float32 of `shape` atomically. kIo on failure; kInvalidArgument when the counts differ.
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               std::span<const float> values);

/// "[2, 3]", for messages.
std::string to_string(const std::vector<int64_t>& shape);

/// Whether `bytes` starts as .npy files do.
bool is_npy(std::span<const uint8_t> bytes) noexcept;

}  // namespace bitstrata::data
