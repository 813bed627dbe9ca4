// What stands in for oneDNN where the build leaves it out (BITSTRATA_ONEDNN=OFF): the narrow kernels are the
// int8 family then.
#include "kernels/families.h"
#include "kernels/onednn_cap.h"

namespace bitstrata::kernels {

std::vector<KernelEntry> int8_entries() {
  return {};
}

Isa cap_onednn(Isa) {
  return Isa::kScalar;
}

}  // namespace bitstrata::kernels
