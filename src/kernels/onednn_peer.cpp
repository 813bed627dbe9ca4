#include "kernels/onednn_peer.h"

#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>

#include "core/error.h"
#include "kernels/onednn_cap.h"
#include "kernels/parallel.h"

namespace bitstrata::kernels {

using dnnl::convolution_forward;
using dnnl::memory;

struct OnednnPeer::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  int threads = 1;
  memory src, weights, dst;
  convolution_forward primitive;
  std::string implementation;
};

namespace {

memory::desc any(memory::dims dims, memory::data_type type) {
  return {std::move(dims), type, memory::format_tag::any};
}

memory filled(const memory::desc& desc, const dnnl::engine& engine) {
  memory result(desc, engine);
  std::memset(result.get_data_handle(), 3, desc.get_size());
  return result;
}

}  // namespace

OnednnPeer::OnednnPeer(const ConvProblem& p, Isa cap) : state_(std::make_unique<State>()) {
  const Isa held = cap_onednn(cap);
  if (held != cap)
    fail(ErrorCode::kUnsupported, "oneDNN is held to {} in this process, expected {}", to_string(held),
         to_string(cap));
  using Type = memory::data_type;
  const program::Window& w = p.window;
  State& s = *state_;
  s.threads = p.max_threads > 0 ? p.max_threads : max_threads();
  const ScopedThreads scope(s.threads);
  try {
    const memory::dims weights =
        p.groups == 1 ? memory::dims{p.oc, p.ic, w.kernel_h, w.kernel_w}
                      : memory::dims{p.groups, p.oc / p.groups, p.ic / p.groups, w.kernel_h, w.kernel_w};
    const convolution_forward::desc desc(
        dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        any({p.max_batch, p.ic, p.ih, p.iw}, Type::u8), any(weights, Type::s8),
        any({p.max_batch, p.oc, p.oh, p.ow}, Type::u8), {w.stride_h, w.stride_w},
        {w.dilation_h - 1, w.dilation_w - 1}, {w.pad_top, w.pad_left}, {w.pad_bottom, w.pad_right});
    dnnl::primitive_attr attributes;
    attributes.set_output_scales(2, std::vector<float>(static_cast<size_t>(p.oc), 0.001f));
    dnnl::post_ops post;
    post.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0, 0);
    attributes.set_post_ops(post);
    const convolution_forward::primitive_desc made(desc, attributes, s.engine);
    s.src = filled(made.src_desc(), s.engine);
    s.weights = filled(made.weights_desc(), s.engine);
    s.dst = filled(made.dst_desc(), s.engine);
    s.primitive = convolution_forward(made);
    s.implementation = made.impl_info_str();
  } catch (const dnnl::error& error) {
    fail(ErrorCode::kUnsupported, "oneDNN cannot do convolution {}x{}x{} -> {}: {}", p.ic, p.ih, p.iw, p.oc,
         printable(error.what()));
  }
}

OnednnPeer::~OnednnPeer() = default;

void OnednnPeer::run() const {
  State& s = *state_;
  const ScopedThreads scope(s.threads);
  s.primitive.execute(s.stream,
                      {{DNNL_ARG_SRC, s.src}, {DNNL_ARG_WEIGHTS, s.weights}, {DNNL_ARG_DST, s.dst}});
  s.stream.wait();
}

std::string OnednnPeer::implementation() const {
  return state_->implementation;
}

}  // namespace bitstrata::kernels
