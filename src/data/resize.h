#pragma once

#include "data/image.h"

namespace bitstrata::data {

/// Brings an image to another extent and colour. src: [from.channels, from.height, from.width]; dst:
/// [to.channels, to.height, to.width]; both 0..255, not overlapping, all extents positive. In this order:
/// 1. colour to grey by (299 R + 587 G + 114 B + 500) / 1000;
/// 2. scaled so that it just covers the target (the other side truncated to whole pixels) and cropped to its
/// centre; bilinear
///    with antialiasing: a triangle filter, widened by the scale when shrinking, horizontally then vertically
///    in float32, rounded once;
/// 3. grey to colour by repetition.
/// Equal extents copy. Channels: equal, or 1 and 3 in either order (can_convert_channels). Thread-safe.
void fit_image(const uint8_t* src, const ImageShape& from, uint8_t* dst, const ImageShape& to);

/// Whether fit_image can make `to` channels from `from`.
bool can_convert_channels(int from, int to) noexcept;

/// The extent that `wanted` (0 = as found) asks of data with extent `found`. kBadInput, naming `where`, when
/// the channels cannot be converted; kInvalidArgument when only one of height and width is given or one is
/// negative or beyond kMaxImageSide.
ImageShape resolve_shape(const ImageShape& wanted, const ImageShape& found, const std::string& where);

}  // namespace bitstrata::data
