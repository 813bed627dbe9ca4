#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/conv.h"
#include "kernels/narrow.h"

/// How the narrow-operand int8 convolution lays out a prepared row, and how far its 16-bit sums go. Internal
/// to the module.
namespace bitstrata::kernels {

/// One group of a prepared row. Word (four bytes of operands) i of output pixel x's part of the window is at
/// offsets[i] + 4 * x, zero weights standing behind its operands where those end.
struct NarrowLayout {
  /// Planes whose first words follow one another.
  struct Run {
    size_t first_byte;  ///< of the group's row of operands
    int first_plane, count;
    int words;  ///< of each plane
  };
  size_t stride_bytes = 0, plane_bytes = 0, bytes = 0;
  std::vector<Run> runs;
  std::vector<uint32_t> offsets;  ///< [row_steps]
  /// Operands of a row of the window, [row_steps][per word]: kx * group_ic + channel, or -1 for none.
  std::vector<int> operands;
};

/// pixel_operands: channels of a group; operand_bytes: 1 or 2.
NarrowLayout narrow_layout(const program::Window& window, int ow, int pixel_operands, int operand_bytes);

/// The most that 16-bit sums hold of these very weights, whatever the codes up to max_code. weights: as
/// NarrowBand has them, bytes, of any number of blocks. {0, 0} when they do not hold one step. Each of those
/// sums adds up `products_per_step` neighbouring bytes.
NarrowExact narrow_exact(const NarrowTarget& target, std::span<const uint8_t> weights, int kernel_h,
                         int row_steps, int max_code);

}  // namespace bitstrata::kernels
