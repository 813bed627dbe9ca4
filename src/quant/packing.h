#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bitstrata::quant {

/// Bytes of `count_elems` codes of `bits` bits each: ceil(count * bits / 8).
constexpr size_t packed_bytes(size_t count_elems, int bits) noexcept {
  return (count_elems * static_cast<size_t>(bits) + 7) / 8;
}

/// Packs codes (each in [0, 2^bits), bits in [1, 8]) into a little-endian bit stream: code i occupies stream bits [i*bits, (i+1)*bits),
/// stream bit j is bit j % 8 of byte j / 8; unused bits of the last byte are 0.
std::vector<uint8_t> pack_codes(std::span<const uint8_t> codes, int bits);

/// Inverse of pack_codes. kCorruptFile when `packed` is not exactly packed_bytes(count_elems, bits) long or its unused bits are set.
std::vector<uint8_t> unpack_codes(std::span<const uint8_t> packed, size_t count_elems, int bits);

}  // namespace bitstrata::quant
