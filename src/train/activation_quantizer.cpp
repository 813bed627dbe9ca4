#include "train/activation_quantizer.h"

#include <vector>

#include "train/activation_loops.h"
#include "train/parts.h"

namespace bitstrata::train {
namespace {

ActivationPass make_pass(const torch::Tensor& scale, int64_t low, int64_t high, ScaleGradient gradient) {
  const float s = scale.item<float>();
  return {s, 1.0f / s, static_cast<float>(low), static_cast<float>(high), gradient == ScaleGradient::kLsq};
}

struct FakeQuantize : torch::autograd::Function<FakeQuantize> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& input, const torch::Tensor& scale,
                               int64_t low, int64_t high, int64_t gradient) {
    const torch::Tensor x = dense(input);
    const ActivationPass pass = make_pass(scale, low, high, static_cast<ScaleGradient>(gradient));
    torch::Tensor y = torch::empty_like(x);
    const float* from = x.data_ptr<float>();
    float* to = y.data_ptr<float>();
    for_parts(x.numel(), [&](int64_t, int64_t begin, int64_t end) { activation_forward(pass, from + begin, to + begin, end - begin); });
    context->save_for_backward({x, scale});
    context->saved_data["low"] = low;
    context->saved_data["high"] = high;
    context->saved_data["gradient"] = gradient;
    return y;
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context, torch::autograd::tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor &x = saved[0], &scale = saved[1];
    const auto mode = static_cast<ScaleGradient>(context->saved_data["gradient"].toInt());
    const ActivationPass pass = make_pass(scale, context->saved_data["low"].toInt(), context->saved_data["high"].toInt(), mode);
    torch::Tensor gx = torch::empty_like(x);
    const torch::Tensor g = laid_out_as(x, gradients[0]);
    const int64_t n = x.numel();
    std::vector<double> sums(static_cast<size_t>(part_count(n)));
    const float *from = x.data_ptr<float>(), *incoming = g.data_ptr<float>();
    float* to = gx.data_ptr<float>();
    for_parts(n, [&](int64_t part, int64_t begin, int64_t end) {
      sums[static_cast<size_t>(part)] = activation_backward(pass, from + begin, incoming + begin, to + begin, end - begin);
    });
    torch::Tensor gs;
    if (mode != ScaleGradient::kNone) {
      double sum = 0;
      for (double part : sums) sum += part;
      gs = torch::full_like(scale, sum);
    }
    return {gx, gs, {}, {}, {}};
  }
};

}  // namespace

torch::Tensor fake_quantize(const torch::Tensor& x, const torch::Tensor& scale, int low, int high, ScaleGradient gradient) {
  if (!x.device().is_cpu() || x.scalar_type() != torch::kFloat) return fake_quantize_composed(x, scale, low, high, gradient);
  return FakeQuantize::apply(x, scale, low, high, static_cast<int64_t>(gradient));
}

torch::Tensor fake_quantize_composed(const torch::Tensor& x, const torch::Tensor& scale, int low, int high, ScaleGradient gradient) {
  const torch::Tensor s = gradient == ScaleGradient::kNone ? scale.detach() : scale;
  const torch::Tensor inverse = s.reciprocal();
  const torch::Tensor r = (x.detach() * inverse.detach());
  const torch::Tensor inside = (r > low).logical_and(r < high).to(x.dtype());
  // Values as the fused pass computes them; gradients by terms whose values cancel.
  const torch::Tensor value = torch::clamp(torch::round(r), low, high) * s.detach();
  torch::Tensor through = inside * (x - x.detach());
  if (gradient != ScaleGradient::kNone) {
    torch::Tensor slope = (1 - inside) * torch::clamp(r, low, high);
    if (gradient == ScaleGradient::kLsq) slope = slope + inside * (torch::round(r) - r);
    through = through + slope * (s - s.detach());
  }
  return value + through;
}

torch::Tensor scale_gradient(const torch::Tensor& parameter, double factor) {
  const torch::Tensor scaled = parameter * factor;
  return parameter.detach() + (scaled - scaled.detach());  // the second term is exactly 0
}

}  // namespace bitstrata::train
