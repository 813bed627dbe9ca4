#include "kernels/onednn_conv.h"

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>

#include "core/error.h"
#include "kernels/parallel.h"

namespace bitstrata::kernels {
namespace {

using dnnl::convolution_forward;
using dnnl::memory;

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// oneDNN's streams are not meant to be shared by threads.
dnnl::stream& stream() {
  static thread_local dnnl::stream stream(cpu());
  return stream;
}

memory::desc weights_desc(const OnednnShape& s, memory::format_tag plain, memory::format_tag grouped) {
  const memory::data_type type = s.is_float ? memory::data_type::f32 : memory::data_type::s8;
  const program::Window& w = s.window;
  if (s.groups == 1) return {{s.oc, s.ic, w.kernel_h, w.kernel_w}, type, plain};
  return {{s.groups, s.oc / s.groups, s.ic / s.groups, w.kernel_h, w.kernel_w}, type, grouped};
}

memory::desc per_channel(const OnednnShape& s) {
  return {{1, s.oc, 1, 1}, memory::data_type::f32, memory::format_tag::nchw};
}

// Scale, addition and the multiplication by `inverse` are separate float32 operations there too; storing
// rounds half to even and cuts at 0 and 255.
void append(dnnl::primitive_attr& attributes, const OnednnShape& s, const Requantization& end) {
  attributes.set_output_scales(2, {end.mul.begin(), end.mul.end()});
  dnnl::post_ops steps;
  steps.append_binary(dnnl::algorithm::binary_add, per_channel(s));
  steps.append_eltwise(1.0f, dnnl::algorithm::eltwise_linear, end.inverse, 0.0f);
  if (end.max_code < 255)
    steps.append_eltwise(1.0f, dnnl::algorithm::eltwise_clip, 0.0f, static_cast<float>(end.max_code));
  attributes.set_post_ops(steps);
}

convolution_forward::primitive_desc describe(const OnednnShape& s, int batch, bool with_bias,
                                             const Requantization* end) {
  using Type = memory::data_type;
  const program::Window& w = s.window;
  const memory::desc src({batch, s.ic, s.ih, s.iw}, s.is_float ? Type::f32 : Type::u8,
                         memory::format_tag::nhwc);
  const memory::desc dst({batch, s.oc, s.oh, s.ow},
                         s.is_float ? Type::f32
                         : end      ? Type::u8
                                    : Type::s32,
                         memory::format_tag::nhwc);
  const memory::desc weights = weights_desc(s, memory::format_tag::any, memory::format_tag::any);
  const memory::desc bias =
      with_bias ? memory::desc({s.oc}, Type::f32, memory::format_tag::x) : memory::desc();
  const convolution_forward::desc desc(dnnl::prop_kind::forward_inference,
                                       dnnl::algorithm::convolution_direct, src, weights, bias, dst,
                                       {w.stride_h, w.stride_w}, {w.dilation_h - 1, w.dilation_w - 1},
                                       {w.pad_top, w.pad_left}, {w.pad_bottom, w.pad_right});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (end != nullptr) append(attributes, s, *end);
  return {desc, attributes, cpu()};
}

/// Runs `body`, turning oneDNN's exceptions into ours.
template <typename Body>
auto translate(const OnednnShape& s, Body body) {
  try {
    return body();
  } catch (const dnnl::error& error) {
    fail(ErrorCode::kUnsupported, "oneDNN cannot do convolution {}x{}x{} -> {}x{}x{}: {}", s.ic, s.ih, s.iw,
         s.oc, s.oh, s.ow, printable(error.what()));
  }
}

}  // namespace

struct OnednnConv::Variant {
  int batch = 0, threads = 0;
  memory::desc src, dst, scratch;
  memory weights, bias, add;
  convolution_forward primitive;
};

// Variants: (1, 1 thread), (1, many), (max_batch, 1 thread), (max_batch, many); oneDNN fixes both numbers
// when a primitive is made.
OnednnConv::OnednnConv(const OnednnShape& shape, const void* weights, const float* bias,
                       const Requantization* end)
    : variants_(std::make_unique<Variant[]>(4)), shape_(shape) {
  if (shape_.max_threads == 0) shape_.max_threads = max_threads();
  translate(shape_, [&] {
    const memory::desc plain = weights_desc(shape_, memory::format_tag::oihw, memory::format_tag::goihw);
    memory plain_weights(plain, cpu(), const_cast<void*>(weights));
    memory own_bias, own_add;
    if (end != nullptr) {
      own_add = memory(per_channel(shape_), cpu());
      std::ranges::copy(end->add, static_cast<float*>(own_add.get_data_handle()));
    }
    if (bias != nullptr) {
      own_bias = memory({{shape_.oc}, memory::data_type::f32, memory::format_tag::x}, cpu());
      std::copy_n(bias, shape_.oc, static_cast<float*>(own_bias.get_data_handle()));
    }
    for (int i = 0; i < 4; ++i) {
      Variant& v = variants_[i];
      v.batch = i < 2 ? 1 : shape_.max_batch;
      v.threads = i % 2 == 0 ? 1 : shape_.max_threads;
      // Same numbers as an earlier variant: execute() never picks this one.
      if ((i >= 2 && shape_.max_batch == 1) || (i % 2 == 1 && shape_.max_threads == 1)) continue;
      const ScopedThreads scope(v.threads);
      const auto desc = describe(shape_, v.batch, bias != nullptr, end);
      v.src = desc.src_desc();
      v.dst = desc.dst_desc();
      v.scratch = desc.scratchpad_desc();
      v.bias = own_bias;
      v.add = own_add;
      for (int j = 0; j < i && !v.weights; ++j) {
        if (variants_[j].weights && variants_[j].weights.get_desc() == desc.weights_desc())
          v.weights = variants_[j].weights;
      }
      if (!v.weights) {
        v.weights = memory(desc.weights_desc(), cpu());
        dnnl::reorder(plain_weights, v.weights).execute(stream(), plain_weights, v.weights);
        stream().wait();
      }
      v.primitive = convolution_forward(desc);
    }
  });
}

OnednnConv::~OnednnConv() = default;

std::vector<std::string> OnednnConv::implementations(const OnednnShape& shape, const Requantization* end) {
  return translate(shape, [&] {
    std::vector<std::string> names;
    for (int batch : {1, shape.max_batch}) {
      for (int threads : {1, shape.max_threads == 0 ? max_threads() : shape.max_threads}) {
        const ScopedThreads scope(threads);
        const std::string name = describe(shape, batch, shape.is_float, end).impl_info_str();
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
    }
    return names;
  });
}

int OnednnConv::next_batch(int remaining) const noexcept {
  return remaining >= shape_.max_batch ? shape_.max_batch : 1;
}

size_t OnednnConv::scratch_bytes() const noexcept {
  size_t bytes = 0;
  for (int i = 0; i < 4; ++i) bytes = std::max(bytes, variants_[i].scratch.get_size());
  return bytes;
}

size_t OnednnConv::weight_bytes() const noexcept {
  size_t bytes = 0;
  for (int i = 0; i < 4; ++i) {
    const memory& weights = variants_[i].weights;
    bool shared = !weights;
    for (int j = 0; j < i; ++j) shared = shared || variants_[j].weights == weights;
    if (!shared) bytes += weights.get_desc().get_size();
  }
  return bytes;
}

void OnednnConv::execute(const void* src, int batch, void* dst, void* scratch, int threads) const noexcept {
  const bool batched = batch == shape_.max_batch && batch > 1;
  const bool many = shape_.max_threads > 1 && threads >= shape_.max_threads;
  const Variant& v = variants_[(batched ? 2 : 0) + (many ? 1 : 0)];
  const ScopedThreads scope(v.threads);
  v.primitive.execute(stream(), {{DNNL_ARG_SRC, memory(v.src, cpu(), const_cast<void*>(src))},
                                 {DNNL_ARG_WEIGHTS, v.weights},
                                 {DNNL_ARG_BIAS, v.bias},
                                 {DNNL_ARG_DST, memory(v.dst, cpu(), dst)},
                                 {DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, v.add},
                                 {DNNL_ARG_SCRATCHPAD, memory(v.scratch, cpu(), scratch)}});
  stream().wait();
}

}  // namespace bitstrata::kernels
