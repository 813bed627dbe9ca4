#include "train/mixture_convolution.h"

#include "train/parts.h"

namespace bitstrata::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct Settings {
  std::vector<CodeRange> candidates;
  std::vector<int64_t> stride, padding, dilation;
  int64_t groups = 1;
};

/// Settings as a value that an autograd context can keep.
struct SettingsHolder : torch::CustomClassHolder {
  explicit SettingsHolder(Settings s) : settings(std::move(s)) {}
  Settings settings;
};

struct MixConvolve : torch::autograd::Function<MixConvolve> {
  /// bias: empty for none, because a Function takes no undefined tensors.
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& shares,
                        const Tensor& growth, const Tensor& weights, const Tensor& bias, const Settings& s) {
    const Tensor x = dense(input);
    context->save_for_backward({x, shares, growth, weights});
    context->saved_data["settings"] = c10::IValue::make_capsule(c10::make_intrusive<SettingsHolder>(s));
    return torch::conv2d(mix_activations_value(x, shares, growth, s.candidates), weights,
                         bias.numel() > 0 ? bias : Tensor(), s.stride, s.padding, s.dilation, s.groups);
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &shares = saved[1], &growth = saved[2], &weights = saved[3];
    const auto holder = context->saved_data["settings"].toCapsule();
    const Settings& s = static_cast<const SettingsHolder&>(*holder).settings;
    const bool needs_mixture =
        context->needs_input_grad(0) || context->needs_input_grad(1) || context->needs_input_grad(2);
    const int64_t oc = weights.size(0);
    const auto [by_mixture, by_weights, by_bias] = at::convolution_backward(
        gradients[0], mix_activations_value(x, shares, growth, s.candidates), weights,
        at::OptionalIntArrayRef(oc), s.stride, s.padding, s.dilation, false, {0, 0}, s.groups,
        {needs_mixture, context->needs_input_grad(3), context->needs_input_grad(4)});
    ActivationMixGradients result;
    if (needs_mixture) {
      const Tensor g = laid_out_as(x, by_mixture);
      result = mix_activations_backward(g, x, shares, growth, s.candidates, g);
    }
    return {result.x, result.shares, result.growth, by_weights, by_bias, {}};
  }
};

}  // namespace

bool can_mix_convolve(const program::Window& w) noexcept {
  return w.pad_top == w.pad_bottom && w.pad_left == w.pad_right;
}

Tensor mix_convolve(const Tensor& x, const Tensor& shares, const Tensor& growth,
                    const std::vector<CodeRange>& candidates, const Tensor& weights, const Tensor& bias,
                    const program::Window& w, int groups) {
  return MixConvolve::apply(x, shares, growth, weights, bias.defined() ? bias : torch::empty({0}),
                            Settings{candidates,
                                     {w.stride_h, w.stride_w},
                                     {w.pad_top, w.pad_left},
                                     {w.dilation_h, w.dilation_w},
                                     groups});
}

}  // namespace bitstrata::train
