#pragma once

#include <optional>
#include <vector>

#include "onnx/builder.h"

/// What the operators that reshape and slice are told, by attributes or inputs, checked against the dims they
/// meet.
namespace bitstrata::onnx {

/// One axis of a slice after ONNX's clamping; extent 0 when it is empty.
struct SliceRange {
  int64_t start = 0, step = 1, extent = 0;
};
SliceRange clamp_slice(const NodeView& node, int64_t start, int64_t end, int64_t step, int64_t dim);

/// The slices of a Slice node per axis of a tensor of `dims`, from attributes (before opset 10) or inputs.
/// Axes are not negative.
struct AxisSlice {
  int64_t axis = 0;
  SliceRange range;
  bool to_end = false;  ///< from the first element, as far as the axis goes, step 1
};
std::vector<AxisSlice> read_slices(Builder& builder, const NodeView& node, const std::vector<int64_t>& dims);

/// Dims of a Reshape of `dims` to `target` (0: keep unless allow_zero; -1: the rest).
std::vector<int64_t> reshaped_dims(const NodeView& node, const std::vector<int64_t>& dims,
                                   const std::vector<int64_t>& target, bool allow_zero);

/// Dims after Squeeze or Unsqueeze; `axes` may be negative. Squeeze without axes drops every 1 behind
/// `first_axis`.
std::vector<int64_t> squeezed_dims(const NodeView& node, const std::vector<int64_t>& dims,
                                   std::vector<int64_t> axes, size_t first_axis);
std::vector<int64_t> unsqueezed_dims(const NodeView& node, const std::vector<int64_t>& dims,
                                     std::vector<int64_t> axes);

/// Axes of a node that moved from the attribute "axes" to input `input` at opset `since`; empty when absent.
std::vector<int64_t> read_axes(Builder& builder, const NodeView& node, int since, size_t input);

/// `axis` of a tensor of `rank` dims made non-negative; kBadInput when outside.
int64_t positive_axis(const NodeView& node, int64_t axis, size_t rank);

}  // namespace bitstrata::onnx
