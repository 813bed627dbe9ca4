#include "kernels/float_conv.h"

#include "core/error.h"
#include "kernels/conv.h"
#include "kernels/onednn_cap.h"
#include "kernels/onednn_conv.h"

namespace bitstrata::kernels {
namespace {

OnednnShape shape_of(const FloatConvProblem& p) {
  return {p.ic, p.ih, p.iw, p.oc, p.oh, p.ow, p.groups, p.window, p.max_batch, p.max_threads, true};
}

// The sizes are checked as those of a 1-bit layer, which has the same geometry.
void check_sizes(const FloatConvProblem& p, size_t weights, size_t bias) {
  ConvProblem geometry{p.ic, p.ih, p.iw, p.oc, p.oh, p.ow, p.groups, p.window, 1, {}, 1};
  geometry.max_batch = p.max_batch;
  geometry.max_threads = p.max_threads;
  validate(geometry);
  const size_t expected = size_t{1} * p.oc * geometry.reduction();
  if (weights != expected || (bias != 0 && bias != static_cast<size_t>(p.oc))) {
    fail(ErrorCode::kInvalidArgument,
         "float convolution with {} weights and {} biases: expected {} and {} or none", weights, bias,
         expected, p.oc);
  }
}

}  // namespace

FloatConv::FloatConv(const FloatConvProblem& problem, std::span<const float> weights,
                     std::span<const float> bias, Isa cap)
    : problem_(problem) {
  check_sizes(problem, weights.size(), bias.size());
  cap_onednn(cap);
  conv_ =
      std::make_unique<OnednnConv>(shape_of(problem), weights.data(), bias.empty() ? nullptr : bias.data());
}

FloatConv::~FloatConv() = default;
FloatConv::FloatConv(FloatConv&&) noexcept = default;
FloatConv& FloatConv::operator=(FloatConv&&) noexcept = default;

size_t FloatConv::scratch_bytes() const noexcept {
  return conv_->scratch_bytes();
}
size_t FloatConv::weight_bytes() const noexcept {
  return conv_->weight_bytes();
}
std::string FloatConv::implementation() const {
  return "onednn " + OnednnConv::implementations(shape_of(problem_)).front();
}

void FloatConv::run(const float* src, int n, float* dst, void* scratch, int threads) const noexcept {
  const size_t src_elems = size_t{1} * problem_.ih * problem_.iw * problem_.ic;
  const size_t dst_elems = size_t{1} * problem_.oh * problem_.ow * problem_.oc;
  while (n > 0) {
    const int batch = conv_->next_batch(n);
    conv_->execute(src, batch, dst, scratch, threads);
    src += batch * src_elems;
    dst += batch * dst_elems;
    n -= batch;
  }
}

FloatLinear::FloatLinear(int in, int out, int positions, std::span<const float> weights,
                         std::span<const float> bias, Isa cap, int max_batch, int max_threads)
    : FloatConv({in, 1, positions, out, 1, positions, 1, {}, max_batch, max_threads}, weights, bias, cap) {}

}  // namespace bitstrata::kernels
