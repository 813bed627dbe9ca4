#include "train/weight_quantizer.h"

#include <cmath>
#include <span>
#include <vector>

#include "quant/weights.h"

namespace bitstrata::train {
namespace {

using quant::Policy;
using torch::Tensor;

/// Rounds in the forward pass only.
Tensor round_through(const Tensor& x) {
  return x + (torch::round(x) - x).detach();
}

/// The value of `value`, the gradient of `source`.
Tensor with_gradient_of(const Tensor& value, const Tensor& source) {
  return value.detach() + (source - source.detach());
}

Tensor signs(const Tensor& w) {
  return torch::where(w >= 0, torch::ones_like(w), -torch::ones_like(w));
}

/// One magnitude statistic per group of `rows` ([groups, elements per group]).
Tensor lsq(int bits, const Tensor& rows, const Tensor& step) {
  const double qp = bits == 1 ? 1.0 : std::ldexp(1.0, bits - 1) - 1;
  const Tensor s = scale_gradient(step, 1.0 / std::sqrt(static_cast<double>(rows.size(1)) * qp));
  if (bits == 1) return signs(rows).detach() * s + (rows - rows.detach());
  return round_through(torch::clamp(rows / s, -std::ldexp(1.0, bits - 1), qp)) * s;
}

Tensor dorefa(int bits, const Tensor& rows, const Tensor& gain, const Tensor& unit) {
  const double top = std::ldexp(1.0, bits) - 1;
  const Tensor t = torch::tanh(rows / unit);
  const Tensor in_range = t / (2 * t.abs().max()) + 0.5;
  return (2 * (round_through(in_range * top) / top) - 1) * gain;
}

Tensor sawb(int bits, const Tensor& rows) {
  const Tensor w = rows.detach().to(torch::kCPU).contiguous();
  std::vector<float> clips;
  for (int64_t g = 0; g < w.size(0); ++g) {
    clips.push_back(std::max(
        1e-12f, quant::sawb_clip(bits, std::span(w[g].data_ptr<float>(), static_cast<size_t>(w.size(1))))));
  }
  const Tensor clip = torch::tensor(clips).to(rows.device()).unsqueeze(1);
  const double top = std::ldexp(1.0, bits) - 1;
  const Tensor unit = torch::clamp(rows / clip, -1, 1) / 2 + 0.5;
  // SAWB+: the gradient passes clipped weights too, which fine-tuning from trained weights needs.
  return with_gradient_of((2 * (torch::round(unit * top) / top) - 1) * clip, rows);
}

Tensor wrpn(int bits, const Tensor& rows, const Tensor& clip) {
  const double top = std::ldexp(1.0, bits - 1) - 1;
  return round_through(torch::clamp(rows / clip, -1, 1) * top) / top * clip;
}

}  // namespace

torch::Tensor scale_gradient(const torch::Tensor& parameter, double factor) {
  const torch::Tensor scaled = parameter * factor;
  return parameter.detach() + (scaled - scaled.detach());  // the second term is exactly 0
}

bool learns_weight_params(Policy policy) noexcept {
  return policy == Policy::kLsq;
}

Tensor fake_quantize_weights(Policy policy, int bits, const Tensor& weights, const Tensor& params) {
  const int64_t groups = params.numel() - (quant::has_unit(policy) ? 1 : 0);
  const Tensor rows = weights.reshape({groups, -1});
  const Tensor param = params.narrow(0, 0, groups).unsqueeze(1);
  Tensor quantized;
  if (policy == Policy::kLsq) {
    quantized = lsq(bits, rows, param);
  } else if (bits == 1) {
    quantized = with_gradient_of(signs(rows) * rows.abs().mean(1, /*keepdim=*/true), rows);
  } else if (policy == Policy::kSawb) {
    quantized = sawb(bits, rows);
  } else if (policy == Policy::kWrpn) {
    quantized = wrpn(bits, rows, param.detach());
  } else {
    quantized = dorefa(bits, rows, param.detach(), params.detach()[groups]);
  }
  return quantized.reshape(weights.sizes());
}

}  // namespace bitstrata::train
