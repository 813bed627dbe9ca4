#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "program/program.h"

/// How tensors lie in memory: rank 3 ([C, H, W]) channels last, every other rank row-major; images one after
/// another.
namespace bitstrata::runtime {

using program::Dims;

/// Logical axes from the outermost to the innermost in memory.
std::vector<int> physical_axes(size_t rank);

/// Distance in elements between neighbours along each logical axis.
std::vector<int64_t> physical_strides(const Dims& dims);
std::vector<int64_t> row_major_strides(const Dims& dims);

/// True when both hold their elements, taken in logical order, at the same places.
bool same_order(const Dims& a, const Dims& b);

/// A copy between two strided tensors of one image, its axes merged and ordered for the target.
class StridedCopy {
 public:
  /// sizes, from and to have one entry per axis; strides in elements, those of the target positive; offsets
  /// of the first elements.
  StridedCopy(const Dims& sizes, std::vector<int64_t> from, std::vector<int64_t> to, int64_t from_offset = 0,
              int64_t to_offset = 0);

  template <typename T>
  void run(const T* source, T* target) const noexcept {
    source += from_offset_;
    target += to_offset_;
    std::array<int64_t, kMaxAxes> at{};
    while (true) {
      copy_inner(source, target);
      int axis = outer_axes_ - 1;
      for (; axis >= 0; --axis) {
        const Axis& a = axes_[axis];
        source += a.from;
        target += a.to;
        if (++at[axis] < a.size) break;
        source -= a.from * a.size;
        target -= a.to * a.size;
        at[axis] = 0;
      }
      if (axis < 0) return;
    }
  }

 private:
  static constexpr int kMaxAxes = 6;
  struct Axis {
    int64_t size = 1, from = 1, to = 1;
  };

  template <typename T>
  void copy_inner(const T* source, T* target) const noexcept {
    if (inner_.from == 1 && inner_.to == 1) {
      std::memcpy(target, source, static_cast<size_t>(inner_.size) * sizeof(T));
      return;
    }
    for (int64_t i = 0; i < inner_.size; ++i) target[i * inner_.to] = source[i * inner_.from];
  }

  std::array<Axis, kMaxAxes> axes_;
  Axis inner_;
  int outer_axes_ = 0;
  int64_t from_offset_, to_offset_;
};

}  // namespace bitstrata::runtime
