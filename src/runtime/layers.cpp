#include <type_traits>

#include "core/error.h"
#include "kernels/float_conv.h"
#include "quant/packing.h"
#include "runtime/epilogue.h"

namespace bitstrata::runtime {
namespace {

using program::Op;
using program::StepKind;

/// Accumulators of one pass stay in the second-level caches of the cores at work.
constexpr int64_t kPassBytes = int64_t{512} << 10;

/// A Conv or Linear as the convolution that computes it, one image of rank 3, channels last.
struct Geometry {
  int ic, ih, iw, oc, oh, ow;
  int groups = 1;
  program::Window window;
};

Geometry geometry(const Preparation& p, const Op& op) {
  const Dims &in = p.tensor(op.inputs[0]).dims, &out = p.tensor(op.outputs[0]).dims;
  const auto size = [](int64_t dim) { return static_cast<int>(dim); };
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) {
    return {size(in[0]),  size(in[1]),  size(in[2]),  size(out[0]),
            size(out[1]), size(out[2]), conv->groups, conv->window};
  }
  const int rows = size(program::elements(in) / in.back());
  return {size(in.back()), 1, rows, size(out.back()), 1, rows, 1, {}};
}

const program::Weights& weights(const Op& op) {
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) return conv->weights;
  return std::get<program::Linear>(op.kind).weights;
}

const std::vector<float>& mul(const Op& op) {
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) return conv->mul;
  return std::get<program::Linear>(op.kind).mul;
}

const std::vector<float>& add(const Op& op) {
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) return conv->add;
  return std::get<program::Linear>(op.kind).add;
}

/// Common part: passes over the batch, and for a Linear on rank 3, which is not row-major in memory, the
/// reordering around it. Input: uint8_t or float elements; results: int32_t or float.
template <typename Input, typename Result>
class Layer : public Executor {
 public:
  Layer(const Preparation& p, const Op& op)
      : input_(op.inputs[0]),
        threads_(p.options.threads),
        in_elems_(program::elements(p.tensor(input_).dims)),
        out_elems_(program::elements(p.tensor(op.outputs[0]).dims)),
        epilogue_(p, op, scratch_) {
    const int64_t wanted =
        std::max<int64_t>(1, threads_ * kPassBytes / (out_elems_ * int64_t{sizeof(Result)}));
    pass_images_ = static_cast<int>(std::min<int64_t>(wanted, p.options.max_batch));
    const Dims &in = p.tensor(input_).dims, &out = p.tensor(op.outputs[0]).dims;
    if (!std::holds_alternative<program::Linear>(op.kind) || in.size() != 3) return;
    to_rows_.emplace(in, physical_strides(in), row_major_strides(in));
    from_rows_.emplace(out, row_major_strides(out), physical_strides(out));
  }

  void run(const Context& context) const noexcept override {
    auto* results = reinterpret_cast<Result*>(context.scratch + results_offset_);
    for (int first = 0; first < context.n; first += pass_images_) {
      const int count = std::min(pass_images_, context.n - first);
      const Input* source = context.data<Input>(input_) + first * in_elems_;
      if (!to_rows_) {
        compute(source, count, results, context.scratch);
        finish(context, first, count, results);
        continue;
      }
      auto* rows = reinterpret_cast<Input*>(context.scratch + rows_offset_);
      auto* turned = reinterpret_cast<Result*>(context.scratch + turned_offset_);
      for (int i = 0; i < count; ++i) to_rows_->run(source + i * in_elems_, rows + i * in_elems_);
      compute(rows, count, results, context.scratch);
      for (int i = 0; i < count; ++i) from_rows_->run(results + i * out_elems_, turned + i * out_elems_);
      finish(context, first, count, turned);
    }
  }

 protected:
  /// Memory for run() as it is here.
  void reserve_passes() {
    const auto reserve = [&](int64_t elems, size_t size) {
      return scratch_.reserve(static_cast<size_t>(pass_images_ * elems) * size);
    };
    results_offset_ = reserve(out_elems_, sizeof(Result));
    if (!to_rows_) return;
    rows_offset_ = reserve(in_elems_, sizeof(Input));
    turned_offset_ = reserve(out_elems_, sizeof(Result));
  }
  bool reorders() const noexcept { return to_rows_.has_value(); }

  virtual void compute(const Input* source, int count, Result* results,
                       std::byte* scratch) const noexcept = 0;
  virtual void finish(const Context& context, int first, int count, const Result* results) const noexcept = 0;

  TensorId input_;
  int threads_;
  int64_t in_elems_, out_elems_;
  Epilogue epilogue_;
  int pass_images_ = 1;

 private:
  std::optional<StridedCopy> to_rows_, from_rows_;
  size_t results_offset_ = 0, rows_offset_ = 0, turned_offset_ = 0;
};

class CodeLayer final : public Layer<uint8_t, int32_t> {
 public:
  CodeLayer(const Preparation& p, const Op& op) : Layer(p, op), ops_(&p.ops) {
    const auto& codes = std::get<program::CodeWeights>(weights(op));
    const quant::CodeType& type = *p.tensor(input_).code;
    const Geometry g = geometry(p, op);
    kernels::ConvProblem problem;
    problem.ic = g.ic, problem.ih = g.ih, problem.iw = g.iw;
    problem.oc = g.oc, problem.oh = g.oh, problem.ow = g.ow;
    problem.groups = g.groups;
    problem.window = g.window;
    problem.w_bits = codes.bits;
    problem.grid = codes.grid;
    problem.a_bits = type.bits;
    problem.a_zero = type.zero;
    problem.max_batch = pass_images_;
    problem.max_threads = threads_;
    const quant::CodeType* code = epilogue_.plain_code();
    const auto channels = static_cast<size_t>(g.oc);
    const bool plain_end = code != nullptr && code->zero == 0 && mul(op).size() == channels &&
                           add(op).size() == channels && !reorders();
    const kernels::Family* only = p.options.family ? &*p.options.family : nullptr;
    const auto count = static_cast<size_t>(g.oc) * static_cast<size_t>(problem.reduction());
    const std::vector<uint8_t> unpacked = quant::unpack_codes(codes.packed, count, codes.bits);
    if (p.times != nullptr) {
      kernels::validate(problem);
      for (const KernelTime& time : p.times->of(problem, unpacked, p.options.isa, plain_end,
                                                p.weight_bytes - static_cast<int64_t>(codes.packed.size()))) {
        if (only == nullptr || time.entry->family == *only) times_.push_back(time);
      }
    }
    const kernels::KernelEntry& entry =
        times_.empty() ? kernels::select_conv(problem, p.options.isa, only) : *times_.front().entry;
    kernel_ = entry.make(problem, unpacked, p.options.isa);
    name_ = entry.name;
    fused_ = plain_end && kernel_->fuse({mul(op), add(op), code->inverse_scale(), code->max_code()});
    kernel_offset_ = scratch_.reserve(kernel_->scratch_bytes(pass_images_));
    channels_ = g.oc;
    output_ = op.outputs[0];

    const Dims& out = p.tensor(op.outputs[0]).dims;
    const size_t channel_axis = std::holds_alternative<program::Conv>(op.kind) ? 0 : out.size() - 1;
    Source scale(p, mul(op), channel_axis, out, epilogue_.tiling());
    Source shift(p, add(op), channel_axis, out, epilogue_.tiling());
    if (scale.is_periodic() && shift.is_periodic()) {
      scale_.emplace(std::move(scale));
      shift_.emplace(std::move(shift));
    } else {
      epilogue_.prepend(StepKind::kAdd, std::move(shift));
      epilogue_.prepend(StepKind::kMultiply, std::move(scale));
    }
    streams_ = scale_ && kernel_->streams() && !reorders();
    if (!streams_ && !fused_) reserve_passes();
  }

  void run(const Context& context) const noexcept override {
    if (fused_) {
      const uint8_t* source = context.data<uint8_t>(input_);
      uint8_t* codes = context.data<uint8_t>(output_);
      for (int first = 0; first < context.n; first += pass_images_) {
        kernel_->run_codes(source + first * in_elems_, std::min(pass_images_, context.n - first),
                           codes + first * out_elems_, context.scratch + kernel_offset_, threads_);
      }
      return;
    }
    if (!streams_) {
      Layer::run(context);
      return;
    }
    struct Call {
      const CodeLayer* layer;
      const Context* context;
    } const call{this, &context};
    const kernels::PixelSink sink{
        &call,
        [](const void* self, int image, int64_t first, int count, const int32_t* acc, int thread) noexcept {
          const auto& [layer, running] = *static_cast<const Call*>(self);
          const int64_t channels = layer->channels_;
          layer->epilogue_.run_scaled(*running, image, first * channels, count * channels, acc,
                                      *layer->scale_, *layer->shift_, thread);
        }};
    kernel_->stream(context.data<uint8_t>(input_), context.n, sink, context.scratch + kernel_offset_,
                    threads_);
  }

  std::string kernel_name() const override { return name_; }
  std::vector<KernelTime> kernel_times() const override { return times_; }

 private:
  void compute(const uint8_t* source, int count, int32_t* results,
               std::byte* scratch) const noexcept override {
    kernel_->run(source, count, results, scratch + kernel_offset_, threads_);
  }

  void finish(const Context& context, int first, int count, const int32_t* results) const noexcept override {
    if (scale_) {
      epilogue_.for_each_tile(count, [&](int64_t i, Tiling::Tile tile, int thread) {
        epilogue_.run_scaled(context, first + i, tile.begin, tile.count,
                             results + i * out_elems_ + tile.begin, *scale_, *shift_, thread);
      });
      return;
    }
    epilogue_.run(context, first, count, [&](int64_t image, Tiling::Tile tile, float* y, void*) {
      ops_->convert(results + (image - first) * out_elems_ + tile.begin, y, static_cast<size_t>(tile.count));
    });
  }

  const RowOps* ops_;
  std::unique_ptr<kernels::ConvKernel> kernel_;
  std::string name_;
  std::vector<KernelTime> times_;
  size_t kernel_offset_ = 0;
  int64_t channels_;
  std::optional<Source> scale_, shift_;
  TensorId output_;
  bool streams_ = false, fused_ = false;
};

class FloatLayer final : public Layer<float, float> {
 public:
  FloatLayer(const Preparation& p, const Op& op) : Layer(p, op) {
    const auto& values = std::get<program::FloatWeights>(weights(op)).values;
    const Geometry g = geometry(p, op);
    const kernels::FloatConvProblem problem{g.ic, g.ih,     g.iw,     g.oc,         g.oh,
                                            g.ow, g.groups, g.window, pass_images_, threads_};
    conv_ = std::make_unique<kernels::FloatConv>(problem, values, add(op), p.options.isa);
    kernel_offset_ = scratch_.reserve(conv_->scratch_bytes());
    reserve_passes();
  }

  std::string kernel_name() const override { return "conv_f32_onednn"; }

 private:
  void compute(const float* source, int count, float* results, std::byte* scratch) const noexcept override {
    conv_->run(source, count, results, scratch + kernel_offset_, threads_);
  }

  void finish(const Context& context, int first, int count, const float* results) const noexcept override {
    epilogue_.run(context, first, count, [&](int64_t image, Tiling::Tile tile, float* y, void*) {
      std::copy_n(results + (image - first) * out_elems_ + tile.begin, tile.count, y);
    });
  }

  std::unique_ptr<kernels::FloatConv> conv_;
  size_t kernel_offset_ = 0;
};

}  // namespace

std::unique_ptr<Executor> make_layer(const Preparation& preparation, const Op& op) {
  if (std::holds_alternative<program::FloatWeights>(weights(op)))
    return std::make_unique<FloatLayer>(preparation, op);
  return std::make_unique<CodeLayer>(preparation, op);
}

}  // namespace bitstrata::runtime
