#include <algorithm>
#include <utility>

#include "onnx/ops.h"

namespace bitstrata::onnx {

namespace {

using program::Window;

constexpr int64_t kMaxWindow = 1 << 20;

int window_int(const NodeView& n, const char* what, int64_t value, int64_t low) {
  if (value < low || value > kMaxWindow) n.bad("{} of {}, expected {} to {}", what, value, low, kMaxWindow);
  return static_cast<int>(value);
}

std::vector<int64_t> pair_of(const NodeView& n, const char* attribute, size_t count, int64_t otherwise) {
  std::vector<int64_t> values = n.integers(attribute);
  if (values.empty()) values.assign(count, otherwise);
  if (values.size() != count) {
    n.unsupported("attribute '{}' has {} entries, supported are {} (two spatial dims)", attribute,
                  values.size(), count);
  }
  return values;
}

/// One spatial axis of a window, with the padding that is really applied.
struct Axis {
  int64_t in, kernel, stride, dilation, before, after;
  int64_t ceil_extra = 0;  ///< end padding beyond `after` that ceil_mode asks for

  int64_t span() const { return dilation * (kernel - 1) + 1; }

  void pad_same(bool upper) {
    const int64_t out = (in + stride - 1) / stride;
    const int64_t total = std::max<int64_t>((out - 1) * stride + span() - in, 0);
    before = upper ? total / 2 : total - total / 2;
    after = total - before;
  }

  /// Windows that start beyond the image and its leading padding are dropped, as PyTorch and ONNX have it.
  void round_up() {
    const int64_t room = in + before + after - span();
    if (room < 0) return;
    int64_t out = (room + stride - 1) / stride + 1;
    if ((out - 1) * stride >= in + before) --out;
    ceil_extra = std::max<int64_t>((out - 1) * stride - room, 0);
  }
};

struct Spatial {
  Axis h, w;
};

Spatial read_spatial(const NodeView& n, const Dims& in, const std::vector<int64_t>& kernel) {
  if (in.size() != 3)
    n.unsupported("input of {} dims with the batch, supported are 4: [batch, channels, height, width]",
                  in.size() + 1);
  const auto strides = pair_of(n, "strides", 2, 1);
  const auto dilations = pair_of(n, "dilations", 2, 1);
  const auto pads = pair_of(n, "pads", 4, 0);
  for (int i = 0; i < 2; ++i) {
    window_int(n, "kernel", kernel[i], 1);
    window_int(n, "stride", strides[i], 1);
    window_int(n, "dilation", dilations[i], 1);
    window_int(n, "pad", pads[i], 0);
    window_int(n, "pad", pads[i + 2], 0);
  }
  Spatial s{{in[1], kernel[0], strides[0], dilations[0], pads[0], pads[2]},
            {in[2], kernel[1], strides[1], dilations[1], pads[1], pads[3]}};
  const std::string auto_pad = n.text("auto_pad", "NOTSET");
  if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
    s.h.pad_same(auto_pad == "SAME_UPPER");
    s.w.pad_same(auto_pad == "SAME_UPPER");
  } else if (auto_pad == "VALID") {
    s.h.before = s.h.after = s.w.before = s.w.after = 0;
  } else if (auto_pad != "NOTSET") {
    n.unsupported("auto_pad '{}', supported are NOTSET, SAME_UPPER, SAME_LOWER and VALID",
                  printable(auto_pad));
  }
  return s;
}

Window to_window(const NodeView& n, const Spatial& s) {
  Window w;
  w.kernel_h = static_cast<int>(s.h.kernel);
  w.kernel_w = static_cast<int>(s.w.kernel);
  w.stride_h = static_cast<int>(s.h.stride);
  w.stride_w = static_cast<int>(s.w.stride);
  w.dilation_h = static_cast<int>(s.h.dilation);
  w.dilation_w = static_cast<int>(s.w.dilation);
  w.pad_top = window_int(n, "pad", s.h.before, 0);
  w.pad_left = window_int(n, "pad", s.w.before, 0);
  w.pad_bottom = window_int(n, "pad", s.h.after + s.h.ceil_extra, 0);
  w.pad_right = window_int(n, "pad", s.w.after + s.w.ceil_extra, 0);
  return w;
}

Spatial read_pool(Builder& b, const NodeView& n) {
  if (!n.has("kernel_shape")) n.bad("attribute 'kernel_shape' is missing");
  Spatial s = read_spatial(n, b.dims(b.activation(n, 0)), pair_of(n, "kernel_shape", 2, 1));
  if (n.integer("ceil_mode", 0) != 0) {
    s.h.round_up();
    s.w.round_up();
  }
  for (const Axis& axis : {s.h, s.w}) {
    if (axis.before >= axis.span() || axis.after >= axis.span()) {
      n.bad("pads {} and {} for a window of {}, expected less", axis.before, axis.after, axis.span());
    }
  }
  return s;
}

void conv(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const Tensor& weights = b.constant(n, 1);
  if (weights.dims.size() != 4)
    n.unsupported("weights of {} dims, supported are 4 (two spatial dims)", weights.dims.size());
  const std::vector<int64_t> kernel = {weights.dims[2], weights.dims[3]};
  if (n.has("kernel_shape") && n.integers("kernel_shape") != kernel) {
    n.bad("kernel_shape [{}], weights [{}]", fmt::join(n.integers("kernel_shape"), ", "),
          fmt::join(weights.dims, ", "));
  }
  graph::Conv conv;
  conv.window = to_window(n, read_spatial(n, b.dims(x), kernel));
  conv.groups = window_int(n, "group", n.integer("group", 1), 1);
  conv.oc = window_int(n, "output channels", weights.dims[0], 1);
  if (weights.dims[1] * conv.groups != b.dims(x)[0]) {
    n.bad("weights [{}] in {} groups for an input of {} channels", fmt::join(weights.dims, ", "), conv.groups,
          b.dims(x)[0]);
  }
  conv.weights = b.float_vector(n, 1);
  conv.integers = b.integers_of(n, 1, 0);
  if (b.has(n, 2)) conv.bias = b.float_vector(n, 2);
  b.bind(n, 0, b.emit(n, std::move(conv), {x}));
}

void max_pool(Builder& b, const NodeView& n) {
  if (n.num_outputs() > 1 && !n.output_name(1).empty())
    n.unsupported("second output (Indices), supported is the first");
  n.integer("storage_order", 0);
  const Spatial s = read_pool(b, n);
  b.bind(n, 0, b.emit(n, program::MaxPool{to_window(n, s)}, {b.activation(n, 0)}));
}

void average_pool(Builder& b, const NodeView& n) {
  ValueId x = b.activation(n, 0);
  Spatial s = read_pool(b, n);
  program::AveragePool pool;
  pool.count_include_pad = n.integer("count_include_pad", 0) != 0;
  if (pool.count_include_pad && s.h.ceil_extra + s.w.ceil_extra > 0) {
    // The file's padding counts, that of ceil_mode does not: make the first part of the image.
    const Dims& in = b.dims(x);
    x = b.emit(n, program::Pad{{0, s.h.before, s.w.before}, {0, s.h.after, s.w.after}, 0.0f}, {x},
               {in[0], in[1] + s.h.before + s.h.after, in[2] + s.w.before + s.w.after});
    s.h.before = s.h.after = s.w.before = s.w.after = 0;
    pool.count_include_pad = false;
  }
  pool.window = to_window(n, s);
  b.bind(n, 0, b.emit(n, std::move(pool), {x}));
}

ValueId global_input(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  if (b.dims(x).size() != 3)
    n.unsupported("input of {} dims with the batch, supported are 4", b.dims(x).size() + 1);
  return x;
}

void global_average_pool(Builder& b, const NodeView& n) {
  const ValueId x = global_input(b, n);
  b.bind(n, 0, b.emit(n, program::ReduceMean{{1, 2}, true}, {x}));
}

void global_max_pool(Builder& b, const NodeView& n) {
  const ValueId x = global_input(b, n);
  Window w;
  w.kernel_h = window_int(n, "height", b.dims(x)[1], 1);
  w.kernel_w = window_int(n, "width", b.dims(x)[2], 1);
  b.bind(n, 0, b.emit(n, program::MaxPool{w}, {x}));
}

}  // namespace

void add_window_ops(Handlers& handlers) {
  handlers["Conv"] = conv;
  handlers["MaxPool"] = max_pool;
  handlers["AveragePool"] = average_pool;
  handlers["GlobalAveragePool"] = global_average_pool;
  handlers["GlobalMaxPool"] = global_max_pool;
}

}  // namespace bitstrata::onnx
