#include <algorithm>
#include <limits>
#include <utility>

#include "graph/shapes.h"
#include "onnx/fold.h"
#include "onnx/shape_arguments.h"
#include "onnx/ops.h"
#include "onnx/proto.h"

namespace bitstrata::onnx {

namespace {

void pass_through(Builder& b, const NodeView& n) {
  b.bind(n, 0, b.operand(n, 0));
}

void dropout(Builder& b, const NodeView& n) {
  n.real("ratio", 0.5f);
  n.integer("seed", 0);
  // A mask output stays undefined: reading it is an error there.
  if (b.has(n, 2)) {
    const Tensor& training = b.constant(n, 2);
    if (training.elems() != 1 || training.is_float || training.ints[0] != 0) {
      n.unsupported("training mode, supported is inference: export the network in evaluation mode");
    }
  }
  pass_through(b, n);
}

void cast(Builder& b, const NodeView& n) {
  const int to = static_cast<int>(n.integer("to", 0));
  n.integer("saturate", 1);
  if (!is_float_type(to))
    n.unsupported("of an activation to {}, supported are floating-point types", element_type_name(to));
  pass_through(b, n);
}

/// Reshapes to full dims, whose first must be the batch.
void reshape_to(Builder& b, const NodeView& n, ValueId x, const std::vector<int64_t>& full) {
  if (full.empty() || full[0] != b.batch) {
    n.unsupported("output [{}] does not keep the batch of {} as its first dim", fmt::join(full, ", "),
                  b.batch);
  }
  b.bind(n, 0, b.emit_reshape(n, x, {full.begin() + 1, full.end()}));
}

void reshape(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const bool allow_zero = n.integer("allowzero", 0) != 0;
  reshape_to(b, n, x, reshaped_dims(n, b.full_dims(x), b.int_vector(n, 1), allow_zero));
}

void flatten(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const std::vector<int64_t> full = b.full_dims(x);
  const int64_t rank = static_cast<int64_t>(full.size());
  int64_t axis = n.integer("axis", 1);
  if (axis < -rank || axis > rank) n.bad("axis {} of a tensor of {} dims", axis, rank);
  if (axis < 0) axis += rank;
  const int64_t rows = count_elems({full.begin(), full.begin() + axis}, n.where());
  reshape_to(b, n, x, {rows, count_elems({full.begin() + axis, full.end()}, n.where())});
}

void check_not_batch(Builder& b, const NodeView& n, const std::vector<int64_t>& axes, size_t rank) {
  for (int64_t axis : axes) b.image_axis(n, axis, rank);
}

void squeeze(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const std::vector<int64_t> full = b.full_dims(x), axes = read_axes(b, n, 13, 1);
  check_not_batch(b, n, axes, full.size());
  reshape_to(b, n, x, squeezed_dims(n, full, axes, 1));
}

void unsqueeze(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const std::vector<int64_t> full = b.full_dims(x), axes = read_axes(b, n, 13, 1);
  check_not_batch(b, n, axes, full.size() + axes.size());
  reshape_to(b, n, x, unsqueezed_dims(n, full, axes));
}

void transpose(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const std::vector<int64_t> perm = n.integers("perm");
  const size_t rank = b.dims(x).size() + 1;
  if (perm.size() != rank) n.bad("perm [{}] for a tensor of {} dims", fmt::join(perm, ", "), rank);
  if (perm[0] != 0)
    n.unsupported("perm [{}] moves the batch, supported are those that start with 0", fmt::join(perm, ", "));
  program::Transpose transpose;
  bool identity = true;
  for (size_t i = 1; i < rank; ++i) {
    transpose.perm.push_back(b.image_axis(n, perm[i], rank));
    identity = identity && perm[i] == static_cast<int64_t>(i);
  }
  b.bind(n, 0, identity ? x : b.emit(n, std::move(transpose), {x}));
}

void concat(Builder& b, const NodeView& n) {
  size_t rank = 0;
  for (size_t i = 0; i < n.num_inputs(); ++i) {
    if (!b.operand(n, i).is_constant()) rank = b.full_dims(b.activation(n, i)).size();
  }
  const int axis = b.image_axis(n, n.integer("axis", 1), rank);
  std::vector<ValueId> inputs;
  for (size_t i = 0; i < n.num_inputs(); ++i) {
    if (!b.operand(n, i).is_constant()) {
      inputs.push_back(b.activation(n, i));
      continue;
    }
    const Dims dims = b.constant(n, i).dims;
    if (b.batch != 1 || dims.size() != rank || dims[0] != 1) {
      n.unsupported("constant input {} of dims [{}], supported are {} dims that start with a batch of 1", i,
                    fmt::join(dims, ", "), rank);
    }
    inputs.push_back(b.emit_constant(n, b.float_vector(n, i), {dims.begin() + 1, dims.end()}));
  }
  b.bind(n, 0, inputs.size() == 1 ? inputs[0] : b.emit(n, program::Concat{axis}, inputs));
}

ValueId emit_slice(Builder& b, const NodeView& n, ValueId x, int axis, const SliceRange& range) {
  Dims dims = b.dims(x);
  if (range.extent == dims[axis] && range.step == 1) return x;
  if (range.extent < 1) n.bad("slice of axis {} is empty", axis + 1);
  dims[axis] = range.extent;
  return b.emit(n, program::Slice{axis, range.start, range.step}, {x}, std::move(dims));
}

void slice(Builder& b, const NodeView& n) {
  ValueId x = b.activation(n, 0);
  const std::vector<int64_t> full = b.full_dims(x);
  for (const AxisSlice& s : read_slices(b, n, full)) {
    if (s.axis == 0) {
      const bool whole = s.to_end || (!b.dynamic_batch && s.range.extent == b.batch && s.range.step == 1);
      if (!whole) n.unsupported("takes part of the batch (axis 0), supported are the axes behind it");
      continue;
    }
    x = emit_slice(b, n, x, static_cast<int>(s.axis - 1), s.range);
  }
  b.bind(n, 0, x);
}

std::vector<int64_t> split_sizes(Builder& b, const NodeView& n, int64_t extent) {
  const int64_t count = static_cast<int64_t>(n.num_outputs());
  std::vector<int64_t> sizes = n.opset() < 13 ? n.integers("split") : std::vector<int64_t>();
  if (n.opset() >= 13 && b.has(n, 1)) sizes = b.int_vector(n, 1);
  if (n.opset() >= 18 && n.integer("num_outputs", count) != count) {
    n.bad("num_outputs {}, but it has {} outputs", n.integer("num_outputs", count), count);
  }
  if (sizes.empty()) {
    const int64_t chunk = (extent + count - 1) / count;
    if (n.opset() < 18 && extent % count != 0)
      n.bad("{} elements do not split into {} equal parts", extent, count);
    for (int64_t i = 0; i < count; ++i) sizes.push_back(std::clamp<int64_t>(extent - i * chunk, 0, chunk));
  }
  if (static_cast<int64_t>(sizes.size()) != count) n.bad("{} sizes for {} outputs", sizes.size(), count);
  return sizes;
}

void split(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const int axis = b.image_axis(n, n.integer("axis", 0), b.dims(x).size() + 1);
  const int64_t extent = b.dims(x)[axis];
  int64_t start = 0;
  const std::vector<int64_t> sizes = split_sizes(b, n, extent);
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 1 || sizes[i] > extent - start)
      n.bad("sizes [{}] of {} elements", fmt::join(sizes, ", "), extent);
    b.bind(n, i, emit_slice(b, n, x, axis, {start, 1, sizes[i]}));
    start += sizes[i];
  }
  if (start != extent) n.bad("sizes [{}] of {} elements", fmt::join(sizes, ", "), extent);
}

void gather(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const Dims image = b.dims(x);
  const int axis = b.image_axis(n, n.integer("axis", 0), image.size() + 1);
  const Tensor& indices = b.constant(n, 1);
  if (indices.is_float || indices.elems() == 0)
    n.bad("indices of dims [{}], expected integers", fmt::join(indices.dims, ", "));
  b.budget.take(indices.elems(), n.where());
  std::vector<int64_t> chosen = indices.ints;
  for (int64_t& i : chosen) {
    if (i < -image[axis] || i >= image[axis])
      n.bad("index {} outside the axis of {} elements", i, image[axis]);
    if (i < 0) i += image[axis];
  }
  Dims out(image.begin(), image.begin() + axis);
  out.insert(out.end(), indices.dims.begin(), indices.dims.end());
  out.insert(out.end(), image.begin() + axis + 1, image.end());
  Dims taken = image;
  taken[axis] = indices.elems();
  // One index is a slice, which compile and runtime treat better.
  const ValueId y = chosen.size() == 1
                        ? emit_slice(b, n, x, axis, {chosen[0], 1, 1})
                        : b.emit(n, program::Gather{axis, std::move(chosen)}, {x}, std::move(taken));
  b.bind(n, 0, b.emit_reshape(n, y, std::move(out)));
}

/// begin and end pads of all `rank` axes, batch included.
std::vector<int64_t> read_pads(Builder& b, const NodeView& n, size_t rank) {
  const std::vector<int64_t> given = n.opset() < 11 ? n.integers("pads") : b.int_vector(n, 1);
  if (n.opset() < 18 || !b.has(n, 3)) {
    if (given.size() != 2 * rank) n.bad("{} pads for {} dims, expected {}", given.size(), rank, 2 * rank);
    return given;
  }
  const std::vector<int64_t> axes = b.int_vector(n, 3);
  if (given.size() != 2 * axes.size()) n.bad("{} pads for {} axes", given.size(), axes.size());
  std::vector<int64_t> pads(2 * rank, 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = positive_axis(n, axes[i], rank);
    pads[axis] = given[i];
    pads[axis + rank] = given[i + axes.size()];
  }
  return pads;
}

void pad(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const std::string mode = n.text("mode", "constant");
  if (mode != "constant") n.unsupported("mode '{}', supported is 'constant'", printable(mode));
  const size_t rank = b.dims(x).size() + 1;
  const std::vector<int64_t> pads = read_pads(b, n, rank);
  program::Pad pad;
  pad.value = n.opset() < 11 ? n.real("value", 0.0f) : b.has(n, 2) ? b.scalar(n, 2) : 0.0f;
  if (pads[0] != 0 || pads[rank] != 0)
    n.unsupported("pads the batch (axis 0), supported are the axes behind it");
  bool any = false;
  for (size_t i = 1; i < rank; ++i) {
    const int64_t before = pads[i], after = pads[i + rank];
    if (before < 0 || after < 0)
      n.unsupported("pads [{}] crop, supported are 0 and more", fmt::join(pads, ", "));
    pad.before.push_back(before);
    pad.after.push_back(after);
    any = any || before > 0 || after > 0;
  }
  b.bind(n, 0, any ? b.emit(n, std::move(pad), {x}) : x);
}

void reduce_mean(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const size_t rank = b.dims(x).size() + 1;
  const std::vector<int64_t> axes = read_axes(b, n, 18, 1);
  const bool keep_dims = n.integer("keepdims", 1) != 0;
  const bool empty_is_identity = n.opset() >= 18 && n.integer("noop_with_empty_axes", 0) != 0;
  if (axes.empty() && empty_is_identity) return pass_through(b, n);
  if (axes.empty()) n.unsupported("over all axes would mix the batch, supported are axes behind it");
  program::ReduceMean mean;
  for (int64_t axis : axes) mean.axes.push_back(b.image_axis(n, axis, rank));
  std::sort(mean.axes.begin(), mean.axes.end());
  mean.keep_dims = keep_dims;
  if (!keep_dims && mean.axes.size() == rank - 1)
    n.unsupported("leaves no dim behind the batch, supported is at least one");
  b.bind(n, 0, b.emit(n, std::move(mean), {x}));
}

struct Blocks {
  ValueId x;
  int64_t size, c, h, w;
};

Blocks read_blocks(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const Dims& in = b.dims(x);
  const int64_t size = n.integer("blocksize", 0);
  if (in.size() != 3) n.unsupported("input of {} dims with the batch, supported are 4", in.size() + 1);
  if (size < 1 || size > 1024) n.bad("blocksize {}, expected 1 to 1024", size);
  return {x, size, in[0], in[1], in[2]};
}

void depth_to_space(Builder& b, const NodeView& n) {
  const auto [x, s, c, h, w] = read_blocks(b, n);
  const std::string mode = n.text("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") n.unsupported("mode '{}', supported are DCR and CRD", printable(mode));
  if (c % (s * s) != 0) n.bad("{} channels in blocks of {}", c, s);
  const int64_t oc = c / (s * s);
  const bool dcr = mode == "DCR";
  const ValueId apart = b.emit_reshape(n, x, dcr ? Dims{s, s, oc, h, w} : Dims{oc, s, s, h, w});
  const std::vector<int> perm = dcr ? std::vector<int>{2, 3, 0, 4, 1} : std::vector<int>{0, 3, 1, 4, 2};
  const ValueId moved = b.emit(n, program::Transpose{perm}, {apart});
  b.bind(n, 0, b.emit_reshape(n, moved, {oc, h * s, w * s}));
}

void space_to_depth(Builder& b, const NodeView& n) {
  const auto [x, s, c, h, w] = read_blocks(b, n);
  if (h % s != 0 || w % s != 0) n.bad("{}x{} image in blocks of {}", h, w, s);
  const ValueId apart = b.emit_reshape(n, x, {c, h / s, s, w / s, s});
  const ValueId moved = b.emit(n, program::Transpose{{2, 4, 0, 1, 3}}, {apart});
  b.bind(n, 0, b.emit_reshape(n, moved, {s * s * c, h / s, w / s}));
}

void expand(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const std::vector<int64_t> full = b.full_dims(x), target = b.int_vector(n, 1);
  bool same = target.size() <= full.size();
  for (size_t i = 0; same && i < target.size(); ++i) {
    const int64_t own = full[full.size() - 1 - i], wanted = target[target.size() - 1 - i];
    same = wanted == 1 || wanted == own;
  }
  if (!same)
    n.unsupported("of an activation [{}] to [{}], supported is none that changes the dims",
                  fmt::join(full, ", "), fmt::join(target, ", "));
  pass_through(b, n);
}

}  // namespace

void add_shape_ops(Handlers& handlers) {
  handlers["Identity"] = pass_through;
  handlers["Dropout"] = dropout;
  handlers["Cast"] = cast;
  handlers["Reshape"] = reshape;
  handlers["Flatten"] = flatten;
  handlers["Squeeze"] = squeeze;
  handlers["Unsqueeze"] = unsqueeze;
  handlers["Transpose"] = transpose;
  handlers["Concat"] = concat;
  handlers["Slice"] = slice;
  handlers["Split"] = split;
  handlers["Gather"] = gather;
  handlers["Pad"] = pad;
  handlers["ReduceMean"] = reduce_mean;
  handlers["DepthToSpace"] = depth_to_space;
  handlers["SpaceToDepth"] = space_to_depth;
  handlers["Expand"] = expand;
}

}  // namespace bitstrata::onnx
