#include "kernels/narrow_layout.h"

#include <algorithm>

namespace bitstrata::kernels {
namespace {

/// Whether 16-bit sums hold `steps` steps from any multiple of `steps` on, counting from the beginning of
/// every part of part_steps steps.
bool fits(const NarrowTarget& target, std::span<const uint8_t> weights, int part_steps, int steps,
          int max_code) {
  const size_t step_bytes = size_t{4} * target.lanes;
  const auto limit = static_cast<uint32_t>(target.max_sum / max_code);
  // Of what is above and below zero; a sum is between the two.
  std::vector<uint32_t> sums(2 * step_bytes);
  uint32_t *above = sums.data(), *below = above + step_bytes;
  const auto within = [&](const uint32_t* part) {
    const size_t together = target.products_per_step;
    for (size_t i = 0; i < step_bytes; i += together) {
      uint32_t sum = 0;
      for (size_t j = i; j < i + together; ++j) sum += part[j];
      if (sum > limit) return false;
    }
    return true;
  };
  const size_t part_bytes = part_steps * step_bytes;
  for (size_t part = 0; part < weights.size(); part += part_bytes) {
    for (int first = 0; first < part_steps; first += steps) {
      std::fill(sums.begin(), sums.end(), 0);
      for (int i = first; i < std::min(first + steps, part_steps); ++i) {
        const uint8_t* step = weights.data() + part + i * step_bytes;
        for (size_t j = 0; j < step_bytes; ++j) {
          const int weight = target.signed_weights ? static_cast<int8_t>(step[j]) : step[j];
          above[j] += static_cast<uint32_t>(std::max(weight, 0));
          below[j] += static_cast<uint32_t>(std::max(-weight, 0));
        }
      }
      if (!within(above) || !within(below)) return false;
    }
  }
  return true;
}

}  // namespace

// Words at equal offsets modulo the distance of two output pixels share a plane: one of them begins later.
NarrowLayout narrow_layout(const program::Window& window, int ow, int pixel_operands, int operand_bytes) {
  NarrowLayout layout;
  const size_t pixel_bytes = size_t{1} * pixel_operands * operand_bytes;
  const int per_word = 4 / operand_bytes;
  layout.stride_bytes = window.stride_w * pixel_bytes;
  // Without dilation the operands of one row of the window follow one another.
  const bool dense = window.dilation_w == 1;
  const int parts = dense ? 1 : window.kernel_w, part_pixels = dense ? window.kernel_w : 1;
  std::vector<size_t> words;
  for (int part = 0; part < parts; ++part) {
    const int count = part_pixels * pixel_operands;
    for (int i = 0; i < count; i += per_word) {
      words.push_back(part * window.dilation_w * pixel_bytes + size_t{1} * i * operand_bytes);
      for (int j = i; j < i + per_word; ++j)
        layout.operands.push_back(j < count ? part * pixel_operands + j : -1);
    }
  }

  std::vector<size_t> planes;  // first bytes
  for (size_t word : words) planes.push_back(word % layout.stride_bytes);
  std::sort(planes.begin(), planes.end());
  planes.erase(std::unique(planes.begin(), planes.end()), planes.end());
  std::vector<int> lengths(planes.size(), ow);
  const auto plane_of = [&](size_t word) {
    return std::lower_bound(planes.begin(), planes.end(), word % layout.stride_bytes) - planes.begin();
  };
  for (size_t word : words) {
    int& length = lengths[plane_of(word)];
    length = std::max(length, ow + static_cast<int>(word / layout.stride_bytes));
  }
  layout.plane_bytes = size_t{4} * *std::max_element(lengths.begin(), lengths.end());
  layout.bytes = planes.size() * layout.plane_bytes;
  for (size_t word : words) {
    layout.offsets.push_back(
        static_cast<uint32_t>(plane_of(word) * layout.plane_bytes + 4 * (word / layout.stride_bytes)));
  }
  for (size_t i = 0; i < planes.size(); ++i) {
    const bool follows = i > 0 && planes[i] == planes[i - 1] + 4 && lengths[i] == lengths[i - 1];
    if (!follows) layout.runs.push_back({planes[i], static_cast<int>(i), 0, lengths[i]});
    ++layout.runs.back().count;
  }
  return layout;
}

NarrowExact narrow_exact(const NarrowTarget& target, std::span<const uint8_t> weights, int kernel_h,
                         int row_steps, int max_code) {
  std::vector<NarrowExact> choices;  // from the fewest widenings to the most
  for (int parts = 1; parts <= kernel_h; ++parts) {
    const int rows = (kernel_h + parts - 1) / parts;
    if (choices.empty() || rows < choices.back().rows) choices.push_back({rows, row_steps});
  }
  for (int parts = 2; parts <= row_steps; ++parts) {
    const int steps = (row_steps + parts - 1) / parts;
    if (steps < choices.back().steps) choices.push_back({1, steps});
  }
  const auto possible = [&](const NarrowExact& choice) {
    return choice.steps == row_steps
               ? fits(target, weights, kernel_h * row_steps, choice.rows * row_steps, max_code)
               : fits(target, weights, row_steps, choice.steps, max_code);
  };
  // In turn, as a choice that does not hold is mostly found out soon.
  const auto found = std::find_if(choices.begin(), choices.end(), possible);
  return found != choices.end() ? *found : NarrowExact{0, 0};
}

}  // namespace bitstrata::kernels
