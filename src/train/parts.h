#pragma once

#include <ATen/Parallel.h>

#include <algorithm>

#include "train/torch.h"

/// Flat sweeps over tensors.
namespace bitstrata::train {

inline constexpr int64_t kPartElems = 1 << 15;  ///< fits the L2 cache; also fixes the order of partial sums

inline int64_t part_count(int64_t n) {
  return (n + kPartElems - 1) / kPartElems;
}

/// Calls body(part, begin, end) for fixed parts of [0, n), in parallel.
template <typename Body>
void for_parts(int64_t n, const Body& body) {
  at::parallel_for(0, part_count(n), 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part)
      body(part, part * kPartElems, std::min(n, (part + 1) * kPartElems));
  });
}

/// x, copied unless its elements lie side by side in memory.
inline torch::Tensor dense(const torch::Tensor& x) {
  return x.is_contiguous() || x.is_contiguous(torch::MemoryFormat::ChannelsLast) ? x : x.contiguous();
}

/// g in the memory layout of x, for one flat sweep over both.
inline torch::Tensor laid_out_as(const torch::Tensor& x, const torch::Tensor& g) {
  return g.strides() == x.strides() ? g : torch::empty_like(x).copy_(g);
}

}  // namespace bitstrata::train
