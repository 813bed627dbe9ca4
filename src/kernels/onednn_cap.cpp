#include "kernels/onednn_cap.h"

#include <oneapi/dnnl/dnnl.hpp>

namespace bitstrata::kernels {
namespace {

dnnl::cpu_isa to_onednn(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return dnnl::cpu_isa::avx2;
    case Isa::kAvx512:
      return dnnl::cpu_isa::avx512_core;
    case Isa::kVnni:
      return dnnl::cpu_isa::avx512_core_bf16;  // the highest below AMX
    case Isa::kAmx:
      return dnnl::cpu_isa::avx512_core_amx;
    default:
      return dnnl::cpu_isa::sse41;
  }
}

Isa from_onednn(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::avx2:
    case dnnl::cpu_isa::avx2_vnni:
      return Isa::kAvx2;
    case dnnl::cpu_isa::avx512_core:
      return Isa::kAvx512;
    case dnnl::cpu_isa::avx512_core_vnni:
    case dnnl::cpu_isa::avx512_core_bf16:
      return Isa::kVnni;
    case dnnl::cpu_isa::avx512_core_amx:
      return Isa::kAmx;
    default:
      return Isa::kScalar;
  }
}

}  // namespace

Isa cap_onednn(Isa cap) {
  static const Isa held = [cap] {
    // Refused when something else used oneDNN before; what counts is what it says it will run.
    static_cast<void>(dnnl::set_max_cpu_isa(to_onednn(cap)));
    return from_onednn(dnnl::get_effective_cpu_isa());
  }();
  return held;
}

}  // namespace bitstrata::kernels
