#include "runtime/layout.h"

#include <algorithm>

namespace bitstrata::runtime {

std::vector<int> physical_axes(size_t rank) {
  if (rank == 3) return {1, 2, 0};
  std::vector<int> axes;
  for (size_t i = 0; i < rank; ++i) axes.push_back(static_cast<int>(i));
  return axes;
}

std::vector<int64_t> physical_strides(const Dims& dims) {
  std::vector<int64_t> strides(dims.size());
  const std::vector<int> axes = physical_axes(dims.size());
  int64_t stride = 1;
  for (size_t i = axes.size(); i-- > 0;) {
    const auto axis = static_cast<size_t>(axes[i]);
    strides[axis] = stride;
    stride *= dims[axis];
  }
  return strides;
}

std::vector<int64_t> row_major_strides(const Dims& dims) {
  std::vector<int64_t> strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= dims[i];
  }
  return strides;
}

bool same_order(const Dims& a, const Dims& b) {
  // Channels of a channels-last tensor that is not row-major as well; 1 otherwise.
  const auto interleaved = [](const Dims& dims) {
    return dims.size() == 3 && dims[1] * dims[2] > 1 ? dims[0] : int64_t{1};
  };
  return interleaved(a) == interleaved(b);
}

StridedCopy::StridedCopy(const Dims& sizes, std::vector<int64_t> from, std::vector<int64_t> to,
                         int64_t from_offset, int64_t to_offset)
    : from_offset_(from_offset), to_offset_(to_offset) {
  std::vector<Axis> axes;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] > 1) axes.push_back({sizes[i], from[i], to[i]});
  }
  std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.to > b.to; });
  std::vector<Axis> merged;
  for (const Axis& axis : axes) {
    if (!merged.empty() && merged.back().from == axis.from * axis.size &&
        merged.back().to == axis.to * axis.size) {
      merged.back() = {merged.back().size * axis.size, axis.from, axis.to};
    } else {
      merged.push_back(axis);
    }
  }
  if (merged.empty()) merged.push_back({});
  inner_ = merged.back();
  outer_axes_ = static_cast<int>(merged.size()) - 1;
  std::copy(merged.begin(), merged.end() - 1, axes_.begin());
}

}  // namespace bitstrata::runtime
