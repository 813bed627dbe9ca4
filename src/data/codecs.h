#pragma once

// Inside the module: the two decoders behind decode_image and what they share.

#include "data/image.h"

namespace bitstrata::data {

bool is_jpeg(std::span<const uint8_t> bytes) noexcept;
bool is_png(std::span<const uint8_t> bytes) noexcept;

Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name);
Image decode_png(std::span<const uint8_t> bytes, const std::string& name);

/// Throws kBadInput when a header claims an extent beyond the limits of image.h.
void check_image_extent(uint64_t height, uint64_t width, const std::string& name);

/// Throws kCorruptFile when `file_bytes` cannot hold the image of a header, so that a short file gets no
/// large memory. most_pixels_per_byte: the best compression that the format allows.
void check_expansion(const ImageShape& shape, size_t file_bytes, size_t most_pixels_per_byte,
                     const std::string& name);

/// Splits interleaved samples [height, width, channels] into planes [channels, height, width].
std::vector<uint8_t> to_planes(std::span<const uint8_t> interleaved, const ImageShape& shape);

}  // namespace bitstrata::data
