#pragma once

#include <memory>
#include <span>
#include <string>

#include "core/isa.h"
#include "program/program.h"

/// Float32 layers for what a plan leaves in float, through oneDNN. The order of summation is oneDNN's:
/// results may differ in the last bits between machines, instruction sets and batch sizes.
namespace bitstrata::kernels {

/// Sizes of a float convolution, as in ConvProblem.
struct FloatConvProblem {
  int ic = 1, ih = 1, iw = 1;
  int oc = 1, oh = 1, ow = 1;
  int groups = 1;
  program::Window window;
  int max_batch = 1;    ///< batch to prepare for; other sizes run too, image by image
  int max_threads = 0;  ///< run() never uses more threads; 0: OpenMP's maximum when the layer is made
};

class OnednnConv;

/// One float layer with its weights. Immutable after construction: any number of threads may call run() with
/// their own buffers.
class FloatConv {
 public:
  /// weights: [oc, ic / groups, kh, kw] row-major; bias: [oc] or empty. cap: passed to cap_onednn().
  /// kInvalidArgument for sizes that do not fit together; kUnsupported when oneDNN refuses.
  FloatConv(const FloatConvProblem& problem, std::span<const float> weights, std::span<const float> bias,
            Isa cap);
  ~FloatConv();
  FloatConv(FloatConv&&) noexcept;
  FloatConv& operator=(FloatConv&&) noexcept;

  /// Scratch that run() needs for any batch, in bytes, 64-byte aligned.
  size_t scratch_bytes() const noexcept;
  size_t weight_bytes() const noexcept;
  std::string implementation() const;
  /// src: [n, ih, iw, ic], dst: [n, oh, ow, oc], dense, 64-byte aligned. Uses max_threads threads when
  /// `threads` allows, otherwise one.
  void run(const float* src, int n, float* dst, void* scratch, int threads) const noexcept;

 private:
  FloatConvProblem problem_;
  std::unique_ptr<OnednnConv> conv_;
};

/// Fully connected float layer: src [n, positions, in] -> dst [n, positions, out]; weights [out, in]
/// row-major, bias [out] or empty.
class FloatLinear : public FloatConv {
 public:
  FloatLinear(int in, int out, int positions, std::span<const float> weights, std::span<const float> bias,
              Isa cap, int max_batch = 1, int max_threads = 0);
};

}  // namespace bitstrata::kernels
