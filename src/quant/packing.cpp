#include "quant/packing.h"

#include "core/error.h"

namespace bitstrata::quant {

std::vector<uint8_t> pack_codes(std::span<const uint8_t> codes, int bits) {
  std::vector<uint8_t> packed(packed_bytes(codes.size(), bits), 0);
  size_t position = 0;
  for (uint8_t code : codes) {
    const unsigned shifted = static_cast<unsigned>(code) << (position % 8);
    packed[position / 8] |= static_cast<uint8_t>(shifted);
    if (shifted > 0xff) packed[position / 8 + 1] |= static_cast<uint8_t>(shifted >> 8);
    position += static_cast<size_t>(bits);
  }
  return packed;
}

std::vector<uint8_t> unpack_codes(std::span<const uint8_t> packed, size_t count_elems, int bits) {
  if (bits < 1 || bits > 8) fail(ErrorCode::kCorruptFile, "packed weights: found {} bits, expected 1 to 8", bits);
  // Dividing first keeps a hostile count from overflowing the product.
  if (count_elems / 8 > packed.size() || packed.size() != packed_bytes(count_elems, bits)) {
    fail(ErrorCode::kCorruptFile, "packed weights: found {} bytes for {} codes of {} bits, expected ceil(codes * bits / 8)",
         packed.size(), count_elems, bits);
  }
  const size_t used_bits = count_elems * static_cast<size_t>(bits);
  if (used_bits % 8 != 0 && (packed.back() >> (used_bits % 8)) != 0) {
    fail(ErrorCode::kCorruptFile, "packed weights: the unused bits of the last byte are not zero");
  }
  std::vector<uint8_t> codes(count_elems);
  const unsigned mask = (1u << bits) - 1;
  for (size_t i = 0; i < count_elems; ++i) {
    const size_t position = i * static_cast<size_t>(bits);
    unsigned word = packed[position / 8];
    if (position / 8 + 1 < packed.size()) word |= static_cast<unsigned>(packed[position / 8 + 1]) << 8;
    codes[i] = static_cast<uint8_t>((word >> (position % 8)) & mask);
  }
  return codes;
}

}  // namespace bitstrata::quant
