#pragma once

#include <hwy/highway.h>

#include <cstdint>

#include "core/isa.h"

/// Which of the targets that Highway compiled a source for runs on this machine. Internal to the module.
namespace bitstrata::kernels {

/// What the function for exactly `isa` returns; Target{} where it is null (not compiled in) or this CPU lacks
/// the instructions. kVnni stands for Highway's AVX3_DL. Call it through KERNEL_TARGET.
template <class Target>
Target target_for(Isa isa, Target (*neon)(), Target (*avx2)(), Target (*avx3)(), Target (*avx3_dl)()) {
  const struct {
    Isa isa;
    int64_t needs;
    Target (*get)();
  } all[] = {{Isa::kNeon, HWY_NEON, neon},
             {Isa::kAvx2, HWY_AVX2, avx2},
             {Isa::kAvx512, HWY_AVX3, avx3},
             {Isa::kVnni, HWY_AVX3_DL, avx3_dl}};
  for (const auto& one : all) {
    if (one.isa == isa && one.get != nullptr && (hwy::SupportedTargets() & one.needs) != 0) return one.get();
  }
  return {};
}

}  // namespace bitstrata::kernels

/// The Target of `isa` by the function `get` of each target's namespace; in the HWY_ONCE part of a source.
#define KERNEL_TARGET(Target, isa, get)                                                     \
  ::bitstrata::kernels::target_for<Target>(isa, HWY_CHOOSE_NEON(get), HWY_CHOOSE_AVX2(get), \
                                           HWY_CHOOSE_AVX3(get), HWY_CHOOSE_AVX3_DL(get))
