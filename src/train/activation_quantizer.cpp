#include "train/activation_quantizer.h"

namespace bitstrata::train {

torch::Tensor fake_quantize(const torch::Tensor& x, const torch::Tensor& scale, int low, int high) {
  const torch::Tensor s = scale.detach(), r = x.detach() * s.reciprocal();
  const torch::Tensor inside = (r > low).logical_and(r < high).to(x.dtype());
  // The value; gradients come from terms that are exactly 0.
  const torch::Tensor value = torch::clamp(torch::round(r), low, high) * s;
  const torch::Tensor slope = inside * (torch::round(r) - r) + (1 - inside) * torch::clamp(r, low, high);
  return value + inside * (x - x.detach()) + slope * (scale - s);
}

}  // namespace bitstrata::train
