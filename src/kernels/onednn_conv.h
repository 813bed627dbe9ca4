#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/isa.h"
#include "kernels/conv.h"
#include "program/program.h"

/// One oneDNN convolution, channels last, prepared for one image and for a batch, for one thread and for
/// many. Internal to the module.
namespace bitstrata::kernels {

struct OnednnShape {
  int ic = 1, ih = 1, iw = 1;
  int oc = 1, oh = 1, ow = 1;
  int groups = 1;
  program::Window window;
  int max_batch = 1;
  int max_threads = 0;    ///< 0: OpenMP's maximum now
  bool is_float = false;  ///< float32 throughout; otherwise u8 x s8 -> s32
};

class OnednnConv {
 public:
  /// weights: [oc, ic / groups, kh, kw] row-major, int8_t or float. bias: [oc] float, or null. end: null, or
  /// what follows an integer convolution, whose results then are codes. Errors of oneDNN: kUnsupported.
  OnednnConv(const OnednnShape& shape, const void* weights, const float* bias,
             const Requantization* end = nullptr);
  ~OnednnConv();

  /// Names of the implementations that oneDNN picks, e.g. "jit:avx512_core_vnni", without duplicates: first
  /// the one for one image on one thread. Throws kUnsupported when it has none.
  static std::vector<std::string> implementations(const OnednnShape& shape,
                                                  const Requantization* end = nullptr);

  /// Images that execute() may take at once: max_batch when `remaining` suffices, otherwise 1.
  int next_batch(int remaining) const noexcept;
  size_t scratch_bytes() const noexcept;
  size_t weight_bytes() const noexcept;
  /// src: [batch, ih, iw, ic], dst: [batch, oh, ow, oc], batch from next_batch(). scratch: 64-byte aligned.
  /// Uses one thread or, when `threads` allows, max_threads. oneDNN itself allocates small argument lists in
  /// here.
  void execute(const void* src, int batch, void* dst, void* scratch, int threads) const noexcept;

 private:
  struct Variant;
  std::unique_ptr<Variant[]> variants_;
  OnednnShape shape_;
};

}  // namespace bitstrata::kernels
