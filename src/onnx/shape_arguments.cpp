#include "onnx/shape_arguments.h"

#include <algorithm>
#include <limits>

namespace bitstrata::onnx {

int64_t positive_axis(const NodeView& node, int64_t axis, size_t rank) {
  const int64_t n = static_cast<int64_t>(rank);
  if (axis < -n || axis >= n) node.bad("axis {} of a tensor of {} dims", axis, rank);
  return axis < 0 ? axis + n : axis;
}

std::vector<int64_t> read_axes(Builder& builder, const NodeView& node, int since, size_t input) {
  if (node.opset() < since) return node.integers("axes");
  return builder.has(node, input) ? builder.int_vector(node, input) : std::vector<int64_t>();
}

SliceRange clamp_slice(const NodeView& node, int64_t start, int64_t end, int64_t step, int64_t dim) {
  if (step == 0 || step == std::numeric_limits<int64_t>::min()) node.bad("step {}", step);
  const auto absolute = [&](int64_t i) {
    return i < 0 ? std::max<int64_t>(i, -dim - 1) + dim : std::min(i, dim);
  };
  SliceRange range;
  range.step = step;
  if (dim == 0) return range;
  if (step > 0) {
    range.start = std::clamp<int64_t>(absolute(start), 0, dim);
    const int64_t stop = std::clamp<int64_t>(absolute(end), 0, dim);
    range.extent = stop > range.start ? (stop - range.start - 1) / step + 1 : 0;
  } else {
    range.start = std::clamp<int64_t>(absolute(start), 0, dim - 1);
    const int64_t stop = std::clamp<int64_t>(absolute(end), -1, dim - 1);
    range.extent = range.start > stop ? (range.start - stop - 1) / -step + 1 : 0;
  }
  if (range.extent <= 1) range.step = 1;
  if (range.extent == 0) range.start = 0;
  return range;
}

std::vector<AxisSlice> read_slices(Builder& builder, const NodeView& node, const std::vector<int64_t>& dims) {
  const bool by_inputs = node.opset() >= 10;
  const std::vector<int64_t> starts = by_inputs ? builder.int_vector(node, 1) : node.integers("starts");
  const std::vector<int64_t> ends = by_inputs ? builder.int_vector(node, 2) : node.integers("ends");
  std::vector<int64_t> axes = read_axes(builder, node, 10, 3);
  std::vector<int64_t> steps(starts.size(), 1);
  if (by_inputs && builder.has(node, 4)) steps = builder.int_vector(node, 4);
  if (axes.empty()) {
    for (size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<int64_t>(i));
  }
  if (starts.size() != ends.size() || starts.size() != axes.size() || starts.size() != steps.size() ||
      starts.size() > dims.size()) {
    node.bad("{} starts, {} ends, {} axes, {} steps for {} dims", starts.size(), ends.size(), axes.size(),
             steps.size(), dims.size());
  }
  std::vector<AxisSlice> slices;
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t axis = positive_axis(node, axes[i], dims.size());
    for (const AxisSlice& other : slices) {
      if (other.axis == axis) node.bad("axis {} is sliced twice", axis);
    }
    const bool to_end = starts[i] == 0 && ends[i] >= std::numeric_limits<int32_t>::max() && steps[i] == 1;
    slices.push_back({axis, clamp_slice(node, starts[i], ends[i], steps[i], dims[axis]), to_end});
  }
  return slices;
}

std::vector<int64_t> reshaped_dims(const NodeView& node, const std::vector<int64_t>& dims,
                                   const std::vector<int64_t>& target, bool allow_zero) {
  std::vector<int64_t> out = target;
  int64_t open = -1;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i] == 0 && !allow_zero) {
      if (i >= dims.size())
        node.bad("target [{}] keeps dim {} of an input of {} dims", fmt::join(target, ", "), i, dims.size());
      out[i] = dims[i];
    }
    if (out[i] == -1) {
      if (open >= 0) node.bad("target [{}] leaves two dims open", fmt::join(target, ", "));
      open = static_cast<int64_t>(i);
      out[i] = 1;
    }
    if (out[i] < 0) node.bad("target [{}] has a negative dim", fmt::join(target, ", "));
  }
  const int64_t elems = count_elems(dims, node.where());
  const int64_t fixed = count_elems(out, node.where());
  if (open >= 0 && fixed > 0 && elems % fixed == 0) out[open] = elems / fixed;
  if (count_elems(out, node.where()) != elems) {
    node.bad("target [{}] does not hold the {} elements of [{}]", fmt::join(target, ", "), elems,
             fmt::join(dims, ", "));
  }
  return out;
}

std::vector<int64_t> squeezed_dims(const NodeView& node, const std::vector<int64_t>& dims,
                                   std::vector<int64_t> axes, size_t first_axis) {
  std::vector<bool> drop(dims.size(), false);
  for (int64_t axis : axes) {
    const int64_t a = positive_axis(node, axis, dims.size());
    if (dims[a] != 1) node.bad("axis {} has {} elements, expected 1", axis, dims[a]);
    drop[a] = true;
  }
  std::vector<int64_t> out;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (axes.empty() && i >= first_axis && dims[i] == 1) drop[i] = true;
    if (!drop[i]) out.push_back(dims[i]);
  }
  return out;
}

std::vector<int64_t> unsqueezed_dims(const NodeView& node, const std::vector<int64_t>& dims,
                                     std::vector<int64_t> axes) {
  const size_t rank = dims.size() + axes.size();
  if (axes.size() > 16) node.bad("{} new axes", axes.size());
  std::vector<bool> is_new(rank, false);
  for (int64_t axis : axes) {
    const int64_t a = positive_axis(node, axis, rank);
    if (is_new[a]) node.bad("axis {} is given twice", axis);
    is_new[a] = true;
  }
  std::vector<int64_t> out;
  size_t next = 0;
  for (size_t i = 0; i < rank; ++i) out.push_back(is_new[i] ? 1 : dims[next++]);
  return out;
}

}  // namespace bitstrata::onnx
