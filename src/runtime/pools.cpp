#include <limits>

#include "runtime/epilogue.h"

namespace bitstrata::runtime {
namespace {

using program::Op;
using program::Window;

/// Positions start, start + dilation, ... of one window along one axis that lie inside the image.
struct Span {
  int64_t first, count;
};

Span inside(int64_t index, int64_t length, int kernel, int stride, int dilation, int pad) noexcept {
  const int64_t start = index * stride - pad;
  const int64_t skipped = start < 0 ? (-start + dilation - 1) / dilation : 0;
  const int64_t first = start + skipped * dilation;
  const int64_t fitting = first < length ? (length - 1 - first) / dilation + 1 : 0;
  return {first, std::max<int64_t>(0, std::min(kernel - skipped, fitting))};
}

/// The window of one output position over a channels-last image.
struct WindowWalk {
  int64_t channels, ih, iw, ow;
  Window window;

  /// Calls body(offset of the position's first channel) in row-major order and returns the number of
  /// positions.
  template <typename Body>
  int64_t each(int64_t pixel, const Body& body) const noexcept {
    const Span rows =
        inside(pixel / ow, ih, window.kernel_h, window.stride_h, window.dilation_h, window.pad_top);
    const Span columns =
        inside(pixel % ow, iw, window.kernel_w, window.stride_w, window.dilation_w, window.pad_left);
    for (int64_t i = 0; i < rows.count; ++i) {
      const int64_t row = (rows.first + i * window.dilation_h) * iw;
      for (int64_t j = 0; j < columns.count; ++j)
        body((row + columns.first + j * window.dilation_w) * channels);
    }
    return rows.count * columns.count;
  }
};

WindowWalk walk(const Dims& in, int64_t ow, const Window& window) {
  return {in[0], in[1], in[2], ow, window};
}

/// Average pooling, and the mean over both spatial axes as the window that is the whole image.
class AveragePoolExecutor final : public Executor {
 public:
  AveragePoolExecutor(const Preparation& p, const Op& op, const WindowWalk& walk, bool count_include_pad)
      : input_(op.inputs[0]),
        code_(p.tensor(input_).code),
        walk_(walk),
        whole_window_(count_include_pad ? int64_t{walk.window.kernel_h} * walk.window.kernel_w : 0),
        epilogue_(p, op, scratch_) {
    const int64_t most = int64_t{walk.window.kernel_h} * walk.window.kernel_w;
    narrow_ = most <= std::numeric_limits<int32_t>::max() / 255;
  }

  void run(const Context& context) const noexcept override {
    const int64_t image_elems = walk_.channels * walk_.ih * walk_.iw;
    epilogue_.run(context, 0, context.n, [&](int64_t image, Tiling::Tile tile, float* y, void* sums) {
      if (!code_) {
        average(context.data<float>(input_) + image * image_elems, tile, y, static_cast<double*>(sums));
      } else if (narrow_) {
        average(context.data<uint8_t>(input_) + image * image_elems, tile, y, static_cast<int32_t*>(sums));
      } else {
        average(context.data<uint8_t>(input_) + image * image_elems, tile, y, static_cast<int64_t*>(sums));
      }
    });
  }

 private:
  template <typename T, typename Sum>
  void average(const T* source, Tiling::Tile tile, float* y, Sum* sums) const noexcept {
    const int64_t channels = walk_.channels;
    const auto zero = static_cast<Sum>(code_ ? code_->zero : 0);
    int64_t channel = tile.begin % channels;
    for (int64_t done = 0; done < tile.count; channel = 0) {
      const int64_t pixel = (tile.begin + done) / channels;
      const int64_t count = std::min(channels - channel, tile.count - done);
      std::fill_n(sums, count, Sum{0});
      const int64_t positions = walk_.each(pixel, [&](int64_t offset) {
        const T* at = source + offset + channel;
        for (int64_t c = 0; c < count; ++c) sums[c] += static_cast<Sum>(at[c]);
      });
      const auto divisor = static_cast<float>(whole_window_ != 0 ? whole_window_ : positions);
      for (int64_t c = 0; c < count; ++c) {
        float value = static_cast<float>(sums[c] + static_cast<Sum>(positions) * zero);
        if (code_) value = value * code_->scale;
        y[done + c] = value / divisor;
      }
      done += count;
    }
  }

  TensorId input_;
  std::optional<quant::CodeType> code_;
  WindowWalk walk_;
  int64_t whole_window_;
  bool narrow_ = true;
  Epilogue epilogue_;
};

/// Mean over any axes, one output element at a time.
class ReduceMeanExecutor final : public Executor {
 public:
  ReduceMeanExecutor(const Preparation& p, const Op& op, const std::vector<int>& axes)
      : input_(op.inputs[0]), code_(p.tensor(input_).code), epilogue_(p, op, scratch_) {
    const Dims &in = p.tensor(input_).dims, &out = p.tensor(op.outputs[0]).dims;
    const std::vector<int64_t> strides = physical_strides(in);
    image_elems_ = program::elements(in);
    std::vector<Axis> kept;
    for (size_t i = 0; i < in.size(); ++i) {
      const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int>(i)) != axes.end();
      if (reduced)
        reduced_.push_back({in[i], strides[i]});
      else
        kept.push_back({in[i], strides[i]});
      // With keep_dims the output has an axis for each of the input's.
      if (reduced && out.size() == in.size()) kept.push_back({1, 0});
    }
    if (kept.empty()) kept.push_back({1, 0});
    for (int axis : physical_axes(out.size())) outer_.push_back(kept[static_cast<size_t>(axis)]);
    for (const Axis& axis : reduced_) count_ *= axis.size;
    last_ = reduced_.back();
    reduced_.pop_back();
  }

  void run(const Context& context) const noexcept override {
    epilogue_.run(context, 0, context.n, [&](int64_t image, Tiling::Tile tile, float* y, void*) {
      for (int64_t i = 0; i < tile.count; ++i) {
        const int64_t first = image * image_elems_ + offset(outer_, tile.begin + i);
        y[i] =
            code_ ? mean(context.data<uint8_t>(input_) + first) : mean(context.data<float>(input_) + first);
      }
    });
  }

 private:
  struct Axis {
    int64_t size, stride;
  };

  static int64_t offset(const std::vector<Axis>& axes, int64_t index) noexcept {
    int64_t result = 0;
    for (size_t i = axes.size(); i-- > 0;) {
      result += index % axes[i].size * axes[i].stride;
      index /= axes[i].size;
    }
    return result;
  }

  /// Sum in the row-major order of the reduced axes.
  template <typename Sum, typename T>
  Sum sum(const T* source) const noexcept {
    Sum result = 0;
    for (int64_t i = 0; i < count_ / last_.size; ++i) {
      const T* at = source + offset(reduced_, i);
      for (int64_t j = 0; j < last_.size; ++j) result += static_cast<Sum>(at[j * last_.stride]);
    }
    return result;
  }

  float mean(const uint8_t* source) const noexcept {
    const float value = static_cast<float>(sum<int64_t>(source) + count_ * code_->zero) * code_->scale;
    return value / static_cast<float>(count_);
  }

  float mean(const float* source) const noexcept {
    return static_cast<float>(sum<double>(source)) / static_cast<float>(count_);
  }

  TensorId input_;
  std::optional<quant::CodeType> code_;
  int64_t image_elems_, count_ = 1;
  std::vector<Axis> reduced_,
      outer_;        ///< reduced_: without the last; outer_: the output's axes in memory order
  Axis last_{1, 0};  ///< the last reduced axis
  Epilogue epilogue_;
};

class MaxPoolExecutor final : public Executor {
 public:
  MaxPoolExecutor(const Preparation& p, const Op& op, const Window& window)
      : input_(op.inputs[0]),
        output_(op.outputs[0]),
        ops_(&p.ops),
        codes_(p.tensor(input_).code),
        threads_(p.options.threads) {
    const Dims& out = p.tensor(output_).dims;
    walk_ = walk(p.tensor(input_).dims, out[2], window);
    oh_ = out[1];
    if (codes_) {
      const auto row_bytes = static_cast<size_t>(walk_.iw * walk_.channels);
      columns_offset_ = scratch_.reserve(static_cast<size_t>(threads_) * aligned(row_bytes));
    }
  }

  void run(const Context& context) const noexcept override {
    if (codes_)
      pool_codes(context);
    else
      pool_values(context);
  }

 private:
  /// The largest of the rows, or pixels, first, first + step, ..., `count` of them, each of `elems` codes.
  void largest(const uint8_t* first, int64_t step, int64_t count, uint8_t* target,
               int64_t elems) const noexcept {
    constexpr int64_t kAtOnce = 8;
    const uint8_t* sources[kAtOnce + 1];
    for (int64_t done = 0; done < count;) {
      int n = 0;
      if (done > 0) sources[n++] = target;
      for (; n <= kAtOnce && done < count; ++done) sources[n++] = first + done * step;
      ops_->max_codes(sources, n, target, static_cast<size_t>(elems));
    }
  }

  // First down the columns of a whole row of windows, then along it: the order does not matter to integers.
  void pool_codes(const Context& context) const noexcept {
    const int64_t channels = walk_.channels, row_elems = walk_.iw * channels;
    const Window& w = walk_.window;
    parallel_for(threads_, context.n * oh_, [&](int64_t row, int thread) {
      const uint8_t* source = context.data<uint8_t>(input_) + row / oh_ * walk_.ih * row_elems;
      uint8_t* target = context.data<uint8_t>(output_) + row * walk_.ow * channels;
      auto* column = reinterpret_cast<uint8_t*>(context.scratch + columns_offset_) +
                     static_cast<size_t>(thread) * aligned(static_cast<size_t>(row_elems));
      const Span rows = inside(row % oh_, walk_.ih, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top);
      largest(source + rows.first * row_elems, w.dilation_h * row_elems, rows.count, column, row_elems);
      for (int64_t x = 0; x < walk_.ow; ++x, target += channels) {
        const Span columns = inside(x, walk_.iw, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left);
        largest(column + columns.first * channels, w.dilation_w * channels, columns.count, target, channels);
      }
    });
  }

  // In row-major order, which decides about NaN.
  void pool_values(const Context& context) const noexcept {
    const int64_t channels = walk_.channels;
    parallel_for(threads_, context.n * oh_, [&](int64_t row, int) {
      const float* source = context.data<float>(input_) + row / oh_ * channels * walk_.ih * walk_.iw;
      float* target = context.data<float>(output_) + row * walk_.ow * channels;
      for (int64_t x = 0; x < walk_.ow; ++x, target += channels) {
        bool first = true;
        walk_.each(row % oh_ * walk_.ow + x, [&](int64_t offset) {
          const float* at = source + offset;
          if (first)
            std::copy_n(at, channels, target);
          else {
            for (int64_t c = 0; c < channels; ++c) target[c] = at[c] > target[c] ? at[c] : target[c];
          }
          first = false;
        });
      }
    });
  }

  TensorId input_, output_;
  const RowOps* ops_;
  bool codes_;
  int threads_;
  WindowWalk walk_;
  int64_t oh_;
  size_t columns_offset_ = 0;
};

}  // namespace

std::unique_ptr<Executor> make_pool(const Preparation& p, const Op& op) {
  const Dims &in = p.tensor(op.inputs[0]).dims, &out = p.tensor(op.outputs[0]).dims;
  if (const auto* pool = std::get_if<program::MaxPool>(&op.kind))
    return std::make_unique<MaxPoolExecutor>(p, op, pool->window);
  if (const auto* pool = std::get_if<program::AveragePool>(&op.kind)) {
    return std::make_unique<AveragePoolExecutor>(p, op, walk(in, out[2], pool->window),
                                                 pool->count_include_pad);
  }
  const auto& mean = std::get<program::ReduceMean>(op.kind);
  if (in.size() == 3 && mean.axes == std::vector<int>{1, 2}) {
    Window whole;
    whole.kernel_h = static_cast<int>(in[1]);
    whole.kernel_w = static_cast<int>(in[2]);
    return std::make_unique<AveragePoolExecutor>(p, op, walk(in, 1, whole), false);
  }
  return std::make_unique<ReduceMeanExecutor>(p, op, mean.axes);
}

}  // namespace bitstrata::runtime
