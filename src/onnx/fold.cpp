#include "onnx/fold.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

#include "onnx/proto.h"
#include "onnx/shape_arguments.h"

namespace bitstrata::onnx {

namespace {

using Dims = std::vector<int64_t>;

Dims row_major_strides(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

/// Calls visit(offset) for every index of `dims` in row-major order, offset = start + sum(index * stride).
template <size_t kCount, typename Visit>
void for_each_offset(const Dims& dims, const std::array<Dims, kCount>& strides,
                     std::array<int64_t, kCount> offsets, Visit visit) {
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return;
  Dims index(dims.size(), 0);
  while (true) {
    visit(offsets);
    size_t axis = dims.size();
    while (axis > 0) {
      --axis;
      for (size_t k = 0; k < kCount; ++k) offsets[k] += strides[k][axis];
      if (++index[axis] < dims[axis]) break;
      for (size_t k = 0; k < kCount; ++k) offsets[k] -= strides[k][axis] * dims[axis];
      index[axis] = 0;
      if (axis == 0) return;
    }
    if (dims.empty()) return;
  }
}

/// One constant node under evaluation.
class Folder {
 public:
  Folder(Builder& builder, const NodeView& node) : builder_(builder), node_(node) {}

  const Tensor& in(size_t i) { return builder_.constant(node_, i); }
  bool has(size_t i) const { return builder_.has(node_, i); }

  /// Charges the budget for a result of `dims`.
  int64_t charge(const Dims& dims) {
    const int64_t elems = count_elems(dims, node_.where());
    builder_.budget.take(elems, node_.where());
    return elems;
  }

  Tensor empty_like(const Tensor& source, Dims dims) {
    Tensor result;
    const int64_t elems = charge(dims);
    result.is_float = source.is_float;
    result.element_type = source.element_type;
    result.dims = std::move(dims);
    (result.is_float ? static_cast<void>(result.floats.reserve(elems)) : result.ints.reserve(elems));
    return result;
  }

  Tensor strided(const Tensor& source, Dims dims, const Dims& strides, int64_t offset) {
    Tensor result = empty_like(source, std::move(dims));
    GridPoints grid;
    for_each_offset<1>(result.dims, {strides}, {offset}, [&](const std::array<int64_t, 1>& at) {
      if (source.is_float) {
        result.floats.push_back(source.floats[at[0]]);
      } else {
        result.ints.push_back(source.ints[at[0]]);
      }
      if (source.grid) {
        grid.integers.push_back(source.grid->integers[at[0]]);
        grid.scales.push_back(source.grid->scales[at[0]]);
      }
    });
    if (source.grid) result.grid = std::make_shared<const GridPoints>(std::move(grid));
    return result;
  }

  Tensor reshaped(const Tensor& source, Dims dims) {
    charge(dims);
    Tensor result = source;
    result.dims = std::move(dims);
    return result;
  }

  Dims broadcast(const Dims& a, const Dims& b) const {
    Dims out(std::max(a.size(), b.size()), 1);
    for (size_t i = 0; i < out.size(); ++i) {
      const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1, db = i < b.size() ? b[b.size() - 1 - i] : 1;
      if (da != db && da != 1 && db != 1)
        node_.bad("[{}] and [{}] do not broadcast", fmt::join(a, ", "), fmt::join(b, ", "));
      out[out.size() - 1 - i] = da == 1 ? db : da;
    }
    return out;
  }

  Dims broadcast_strides(const Dims& dims, const Dims& out) const {
    const Dims own = row_major_strides(dims);
    Dims strides(out.size(), 0);
    for (size_t i = 0; i < dims.size(); ++i) {
      if (dims[i] != 1) strides[out.size() - dims.size() + i] = own[i];
    }
    return strides;
  }

  Tensor expanded(const Tensor& source, const Dims& target) {
    const Dims out = broadcast(source.dims, target);
    return strided(source, out, broadcast_strides(source.dims, out), 0);
  }

  template <typename FloatOp, typename IntOp>
  Tensor elementwise(const Tensor& a, const Tensor& b, FloatOp float_op, IntOp int_op) {
    if (a.is_float != b.is_float) node_.bad("operands are a floating-point and an integer tensor");
    const Dims out = broadcast(a.dims, b.dims);
    using Result = std::invoke_result_t<FloatOp, float, float>;
    Tensor result;
    result.dims = out;
    result.is_float = a.is_float && std::is_same_v<Result, float>;
    charge(out);
    const std::array<Dims, 2> strides = {broadcast_strides(a.dims, out), broadcast_strides(b.dims, out)};
    for_each_offset<2>(out, strides, {0, 0}, [&](const std::array<int64_t, 2>& at) {
      if (result.is_float) {
        result.floats.push_back(static_cast<float>(float_op(a.floats[at[0]], b.floats[at[1]])));
      } else if (a.is_float) {
        result.ints.push_back(static_cast<int64_t>(float_op(a.floats[at[0]], b.floats[at[1]])));
      } else {
        result.ints.push_back(static_cast<int64_t>(int_op(a.ints[at[0]], b.ints[at[1]])));
      }
    });
    return result;
  }

  template <typename Op>
  Tensor unary(Op op) {
    const Tensor& source = in(0);
    if (!source.is_float) node_.unsupported("integer operand, supported is a floating-point one");
    charge(source.dims);
    Tensor result = source;
    result.grid = nullptr;
    for (float& v : result.floats) v = op(v);
    return result;
  }

  int64_t divided(int64_t a, int64_t b) const {
    if (b == 0 || (b == -1 && a == std::numeric_limits<int64_t>::min()))
      node_.bad("integer division {} / {}", a, b);
    return a / b;
  }

  int64_t modulo(int64_t a, int64_t b, bool truncated) const {
    const int64_t quotient = divided(a, b);
    const int64_t rest = a - quotient * b;
    return !truncated && rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  }

  int64_t positive(int64_t axis, size_t rank) const { return positive_axis(node_, axis, rank); }

  Builder& builder() { return builder_; }
  const NodeView& node() const { return node_; }

 private:
  Builder& builder_;
  const NodeView& node_;
};

// Integer results wrap as the types of the file would.
int64_t wrap_add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
int64_t wrap_sub(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}
int64_t wrap_mul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

Tensor fold_constant(Folder& f) {
  const NodeView& n = f.node();
  if (const auto* tensor = n.tensor("value")) return f.builder().decode_tensor(*tensor);
  if (n.has("value_int")) return Tensor::of_scalar(n.integer("value_int", 0));
  if (n.has("value_ints")) return Tensor::of_ints(n.integers("value_ints"));
  if (n.has("value_float")) return Tensor::of_floats({n.real("value_float", 0)}, {});
  if (n.has("value_floats")) {
    std::vector<float> values = n.reals("value_floats");
    const int64_t count = static_cast<int64_t>(values.size());
    return Tensor::of_floats(std::move(values), {count});
  }
  n.unsupported("has none of the attributes value, value_int, value_ints, value_float, value_floats");
}

Tensor fold_constant_of_shape(Folder& f) {
  Tensor value = Tensor::of_floats({0.0f}, {1});
  if (const auto* tensor = f.node().tensor("value")) value = f.builder().decode_tensor(*tensor);
  if (value.elems() != 1) f.node().bad("attribute 'value' has {} elements, expected 1", value.elems());
  const Dims dims = f.builder().int_vector(f.node(), 0);
  return f.strided(value, dims, Dims(dims.size(), 0), 0);
}

Tensor fold_shape(const NodeView& n, const Dims& dims) {
  const int64_t rank = static_cast<int64_t>(dims.size());
  const auto clamp = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + rank : i, 0, rank); };
  const int64_t start = clamp(n.integer("start", 0));
  const int64_t end = std::max(start, clamp(n.integer("end", rank)));
  return Tensor::of_ints({dims.begin() + start, dims.begin() + end});
}

Tensor fold_size(const NodeView& n, const Dims& dims) {
  return Tensor::of_scalar(count_elems(dims, n.where()));
}

Tensor fold_gather(Folder& f) {
  const Tensor &data = f.in(0), &indices = f.in(1);
  if (indices.is_float) f.node().bad("indices are no integers");
  const size_t axis = f.positive(f.node().integer("axis", 0), data.dims.size());
  const int64_t extent = data.dims[axis];
  Dims out(data.dims.begin(), data.dims.begin() + axis);
  out.insert(out.end(), indices.dims.begin(), indices.dims.end());
  out.insert(out.end(), data.dims.begin() + axis + 1, data.dims.end());
  Tensor result = f.empty_like(data, out);
  int64_t outer = 1, inner = 1;
  for (size_t i = 0; i < axis; ++i) outer *= data.dims[i];
  for (size_t i = axis + 1; i < data.dims.size(); ++i) inner *= data.dims[i];
  if (count_elems(out, f.node().where()) == 0) return result;
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t index : indices.ints) {
      const int64_t i = index < 0 ? index + extent : index;
      if (i < 0 || i >= extent) f.node().bad("index {} outside the axis of {} elements", index, extent);
      const int64_t from = (o * extent + i) * inner;
      if (data.is_float) {
        result.floats.insert(result.floats.end(), data.floats.begin() + from,
                             data.floats.begin() + from + inner);
      } else {
        result.ints.insert(result.ints.end(), data.ints.begin() + from, data.ints.begin() + from + inner);
      }
    }
  }
  return result;
}

Tensor fold_cast(Folder& f) {
  const int to = static_cast<int>(f.node().integer("to", 0));
  f.node().has("saturate");
  const Tensor& source = f.in(0);
  if (!is_float_type(to) && !is_integer_type(to))
    f.node().unsupported("to element type {}, supported are the floating, integer and boolean ones",
                         element_type_name(to));
  f.charge(source.dims);
  Tensor result;
  result.dims = source.dims;
  result.is_float = is_float_type(to);
  result.element_type = to;
  const bool to_bool = to == pb::TensorProto::BOOL;
  if (result.is_float) {
    result.floats =
        source.is_float ? source.floats : std::vector<float>(source.ints.begin(), source.ints.end());
    return result;
  }
  for (int64_t v : source.ints) result.ints.push_back(to_bool ? int64_t{v != 0} : v);
  for (float v : source.floats) {
    if (!to_bool && !(std::fabs(v) < 0x1.0p62f)) f.node().bad("cannot cast {} to an integer", v);
    result.ints.push_back(to_bool ? int64_t{v != 0} : static_cast<int64_t>(v));
  }
  return result;
}

Tensor fold_concat(Folder& f) {
  const NodeView& n = f.node();
  const Tensor& first = f.in(0);
  const size_t axis = f.positive(n.integer("axis", 0), first.dims.size());
  Dims out = first.dims;
  for (size_t i = 1; i < n.num_inputs(); ++i) {
    Dims same = f.in(i).dims;
    if (same.size() != out.size() || f.in(i).is_float != first.is_float)
      n.bad("inputs 0 and {} differ in rank or type", i);
    const int64_t extent = std::exchange(same[axis], first.dims[axis]);
    if (same != first.dims) n.bad("inputs 0 and {} differ beyond axis {}", i, axis);
    out[axis] += extent;
    if (out[axis] > program::kMaxElements) n.bad("output of {} elements along axis {}", out[axis], axis);
  }
  Tensor result = f.empty_like(first, out);
  int64_t outer = 1;
  for (size_t i = 0; i < axis; ++i) outer *= out[i];
  if (count_elems(out, n.where()) == 0) return result;
  for (int64_t o = 0; o < outer; ++o) {
    for (size_t i = 0; i < n.num_inputs(); ++i) {
      const Tensor& t = f.in(i);
      const int64_t chunk = t.elems() / outer;
      if (t.is_float) {
        result.floats.insert(result.floats.end(), t.floats.begin() + o * chunk,
                             t.floats.begin() + (o + 1) * chunk);
      } else {
        result.ints.insert(result.ints.end(), t.ints.begin() + o * chunk, t.ints.begin() + (o + 1) * chunk);
      }
    }
  }
  return result;
}

Tensor fold_slice(Folder& f) {
  Tensor result = f.in(0);
  for (const AxisSlice& slice : read_slices(f.builder(), f.node(), result.dims)) {
    Dims strides = row_major_strides(result.dims), dims = result.dims;
    const int64_t offset = slice.range.start * strides[slice.axis];
    strides[slice.axis] *= slice.range.step;
    dims[slice.axis] = slice.range.extent;
    result = f.strided(result, dims, strides, offset);
  }
  return result;
}

Tensor fold_transpose(Folder& f) {
  const Tensor& source = f.in(0);
  Dims perm = f.node().integers("perm");
  const size_t rank = source.dims.size();
  if (!f.node().has("perm")) {
    for (size_t i = rank; i-- > 0;) perm.push_back(static_cast<int64_t>(i));
  }
  Dims sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  const Dims own = row_major_strides(source.dims);
  Dims dims, strides;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (sorted.size() != rank || sorted[i] != static_cast<int64_t>(i))
      f.node().bad("perm [{}] is no permutation of {} axes", fmt::join(perm, ", "), rank);
    dims.push_back(source.dims[perm[i]]);
    strides.push_back(own[perm[i]]);
  }
  if (perm.size() != rank) f.node().bad("perm is empty, expected {} axes", rank);
  return f.strided(source, dims, strides, 0);
}

Tensor fold_reshape(Folder& f) {
  const bool allow_zero = f.node().integer("allowzero", 0) != 0;
  return f.reshaped(f.in(0),
                    reshaped_dims(f.node(), f.in(0).dims, f.builder().int_vector(f.node(), 1), allow_zero));
}

Tensor fold_squeeze(Folder& f) {
  return f.reshaped(f.in(0),
                    squeezed_dims(f.node(), f.in(0).dims, read_axes(f.builder(), f.node(), 13, 1), 0));
}

Tensor fold_unsqueeze(Folder& f) {
  return f.reshaped(f.in(0),
                    unsqueezed_dims(f.node(), f.in(0).dims, read_axes(f.builder(), f.node(), 13, 1)));
}

Tensor fold_flatten(Folder& f) {
  const Dims& dims = f.in(0).dims;
  const int64_t rank = static_cast<int64_t>(dims.size());
  int64_t axis = f.node().integer("axis", 1);
  if (axis < -rank || axis > rank) f.node().bad("axis {} of a tensor of {} dims", axis, rank);
  if (axis < 0) axis += rank;
  const int64_t rows = count_elems({dims.begin(), dims.begin() + axis}, f.node().where());
  const int64_t columns = count_elems({dims.begin() + axis, dims.end()}, f.node().where());
  return f.reshaped(f.in(0), {rows, columns});
}

Tensor fold_range(Folder& f) {
  const Tensor &start = f.in(0), &limit = f.in(1), &delta = f.in(2);
  for (const Tensor* t : {&start, &limit, &delta}) {
    if (t->elems() != 1 || t->is_float != start.is_float) f.node().bad("expected three numbers of one type");
  }
  Tensor result;
  result.is_float = start.is_float;
  const double from = start.is_float ? start.floats[0] : static_cast<double>(start.ints[0]);
  const double to = start.is_float ? limit.floats[0] : static_cast<double>(limit.ints[0]);
  const double by = start.is_float ? delta.floats[0] : static_cast<double>(delta.ints[0]);
  const double count = std::max(0.0, std::ceil((to - from) / by));
  if (by == 0 || !(count <= static_cast<double>(program::kMaxElements)))
    f.node().bad("from {} to {} by {}", from, to, by);
  result.dims = {static_cast<int64_t>(count)};
  f.charge(result.dims);
  for (int64_t i = 0; i < result.dims[0]; ++i) {
    if (start.is_float) {
      result.floats.push_back(start.floats[0] + static_cast<float>(i) * delta.floats[0]);
    } else {
      result.ints.push_back(wrap_add(start.ints[0], wrap_mul(i, delta.ints[0])));
    }
  }
  return result;
}

Tensor fold_where(Folder& f) {
  const Tensor &condition = f.in(0), &a = f.in(1), &b = f.in(2);
  if (condition.is_float || a.is_float != b.is_float)
    f.node().bad("condition is no boolean tensor or the choices differ in type");
  const Dims out = f.broadcast(f.broadcast(condition.dims, a.dims), b.dims);
  Tensor result = f.empty_like(a, out);
  const std::array<Dims, 3> strides = {f.broadcast_strides(condition.dims, out),
                                       f.broadcast_strides(a.dims, out), f.broadcast_strides(b.dims, out)};
  for_each_offset<3>(out, strides, {0, 0, 0}, [&](const std::array<int64_t, 3>& at) {
    const bool chosen = condition.ints[at[0]] != 0;
    if (a.is_float) {
      result.floats.push_back(chosen ? a.floats[at[1]] : b.floats[at[2]]);
    } else {
      result.ints.push_back(chosen ? a.ints[at[1]] : b.ints[at[2]]);
    }
  });
  return result;
}

Tensor fold_reduce_prod(Folder& f) {
  const Tensor& source = f.in(0);
  const Dims axes = read_axes(f.builder(), f.node(), 18, 1);
  const bool keep = f.node().integer("keepdims", 1) != 0;
  f.node().integer("noop_with_empty_axes", 0);
  const bool all =
      axes.empty() || (axes.size() == 1 && source.dims.size() == 1 && f.positive(axes[0], 1) == 0);
  if (!all) f.node().unsupported("over some of the axes of a constant, supported is over all");
  Tensor result;
  result.is_float = source.is_float;
  result.dims = keep ? Dims(source.dims.size(), 1) : Dims();
  if (source.is_float) {
    float product = 1;
    for (float v : source.floats) product *= v;
    result.floats = {product};
  } else {
    int64_t product = 1;
    for (int64_t v : source.ints) product = wrap_mul(product, v);
    result.ints = {product};
  }
  return result;
}

template <typename FloatOp, typename IntOp>
Tensor fold_variadic(Folder& f, FloatOp float_op, IntOp int_op) {
  Tensor result = f.in(0);
  for (size_t i = 1; i < f.node().num_inputs(); ++i)
    result = f.elementwise(result, f.in(i), float_op, int_op);
  return result;
}

Tensor fold_mod(Folder& f) {
  const bool truncated = f.node().integer("fmod", 0) != 0;
  return f.elementwise(
      f.in(0), f.in(1),
      [&](float a, float b) {
        if (!truncated) f.node().bad("fmod must be 1 for floating-point operands");
        return std::fmod(a, b);
      },
      [&](int64_t a, int64_t b) { return f.modulo(a, b, truncated); });
}

/// Weights whose grid lies halfway between integers, like the odd grid of 8 bits, are even ones plus half a
/// step: 2q steps of half the size, plus one.
std::shared_ptr<const GridPoints> half_a_step_further(const Tensor& even, const Tensor& offset) {
  GridPoints grid;
  for (size_t i = 0; i < even.floats.size(); ++i) {
    const float half = even.grid->scales[i] / 2;
    if (offset.floats[i] != half) return nullptr;
    grid.integers.push_back(2 * even.grid->integers[i] + 1);
    grid.scales.push_back(half);
  }
  return std::make_shared<const GridPoints>(std::move(grid));
}

Tensor fold_add(Folder& f) {
  Tensor sum = f.elementwise(f.in(0), f.in(1), std::plus<float>(), wrap_add);
  for (size_t i : {0, 1}) {
    const Tensor& even = f.in(i);
    if (even.grid && !f.in(1 - i).grid && sum.dims == even.dims)
      sum.grid = half_a_step_further(even, f.expanded(f.in(1 - i), even.dims));
  }
  return sum;
}

/// Bounds are inputs from opset 11 on.
Tensor fold_clip(Folder& f) {
  Tensor result = f.in(0);
  const auto apply = [&](size_t input, const char* attribute, auto narrower) {
    if (f.node().opset() < 11) {
      if (f.node().has(attribute))
        result =
            f.elementwise(result, Tensor::of_floats({f.node().real(attribute, 0)}, {}), narrower, narrower);
    } else if (f.has(input)) {
      if (f.in(input).elems() != 1)
        f.node().bad("input {} has {} elements, expected 1", input, f.in(input).elems());
      result = f.elementwise(result, f.in(input), narrower, narrower);
    }
  };
  apply(1, "min", [](auto a, auto b) { return a > b ? a : b; });
  apply(2, "max", [](auto a, auto b) { return a < b ? a : b; });
  result.dims = f.in(0).dims;
  result.element_type = f.in(0).element_type;
  return result;
}

float power(float a, float b) {
  return std::pow(a, b);
}

using Fold = std::function<Tensor(Folder&)>;

const std::map<std::string_view, Fold>& folds() {
  static const std::map<std::string_view, Fold> table = {
      {"Constant", fold_constant},
      {"ConstantOfShape", fold_constant_of_shape},
      {"Shape", [](Folder& f) { return fold_shape(f.node(), f.in(0).dims); }},
      {"Size", [](Folder& f) { return fold_size(f.node(), f.in(0).dims); }},
      {"Gather", fold_gather},
      {"Cast", fold_cast},
      {"Concat", fold_concat},
      {"Slice", fold_slice},
      {"Transpose", fold_transpose},
      {"Reshape", fold_reshape},
      {"Squeeze", fold_squeeze},
      {"Unsqueeze", fold_unsqueeze},
      {"Flatten", fold_flatten},
      {"Range", fold_range},
      {"Where", fold_where},
      {"ReduceProd", fold_reduce_prod},
      {"Mod", fold_mod},
      {"Identity", [](Folder& f) { return f.reshaped(f.in(0), f.in(0).dims); }},
      {"Expand", [](Folder& f) { return f.expanded(f.in(0), f.builder().int_vector(f.node(), 1)); }},
      {"Add", fold_add},
      {"Clip", fold_clip},
      {"Sub", [](Folder& f) { return f.elementwise(f.in(0), f.in(1), std::minus<float>(), wrap_sub); }},
      {"Mul", [](Folder& f) { return f.elementwise(f.in(0), f.in(1), std::multiplies<float>(), wrap_mul); }},
      {"Div",
       [](Folder& f) {
         return f.elementwise(f.in(0), f.in(1), std::divides<float>(),
                              [&](int64_t a, int64_t b) { return f.divided(a, b); });
       }},
      {"Pow",
       [](Folder& f) {
         return f.elementwise(f.in(0), f.in(1), power, [&](int64_t, int64_t) -> int64_t {
           f.node().unsupported("of integers, supported is floating point");
         });
       }},
      {"Equal",
       [](Folder& f) {
         return f.elementwise(f.in(0), f.in(1), std::equal_to<float>(), std::equal_to<int64_t>());
       }},
      {"Less",
       [](Folder& f) { return f.elementwise(f.in(0), f.in(1), std::less<float>(), std::less<int64_t>()); }},
      {"Greater",
       [](Folder& f) {
         return f.elementwise(f.in(0), f.in(1), std::greater<float>(), std::greater<int64_t>());
       }},
      {"Min",
       [](Folder& f) {
         return fold_variadic(
             f, [](float a, float b) { return std::min(a, b); },
             [](int64_t a, int64_t b) { return std::min(a, b); });
       }},
      {"Max",
       [](Folder& f) {
         return fold_variadic(
             f, [](float a, float b) { return std::max(a, b); },
             [](int64_t a, int64_t b) { return std::max(a, b); });
       }},
      {"Floor", [](Folder& f) { return f.unary([](float v) { return std::floor(v); }); }},
      {"Ceil", [](Folder& f) { return f.unary([](float v) { return std::ceil(v); }); }},
      {"Sqrt", [](Folder& f) { return f.unary([](float v) { return std::sqrt(v); }); }},
      {"Exp", [](Folder& f) { return f.unary([](float v) { return std::exp(v); }); }},
      {"Log", [](Folder& f) { return f.unary([](float v) { return std::log(v); }); }},
      {"Reciprocal", [](Folder& f) { return f.unary([](float v) { return 1.0f / v; }); }},
      {"Neg",
       [](Folder& f) {
         Tensor zero = Tensor::of_scalar(0);
         if (!f.in(0).is_float) return f.elementwise(zero, f.in(0), std::minus<float>(), wrap_sub);
         return f.unary([](float v) { return -v; });
       }},
      {"Not",
       [](Folder& f) {
         return f.elementwise(f.in(0), Tensor::of_scalar(0), std::equal_to<float>(),
                              std::equal_to<int64_t>());
       }},
  };
  return table;
}

}  // namespace

bool is_foldable(const std::string& op) {
  return folds().contains(op);
}

Tensor fold_constants(Builder& builder, const NodeView& node) {
  Folder folder(builder, node);
  if ((node.op() == "Shape" || node.op() == "Size") && !builder.operand(node, 0).is_constant()) {
    const Dims dims = builder.full_dims(builder.activation(node, 0));
    return node.op() == "Shape" ? fold_shape(node, dims) : fold_size(node, dims);
  }
  return folds().at(node.op())(folder);
}

}  // namespace bitstrata::onnx
