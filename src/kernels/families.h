#pragma once

#include <vector>

#include "kernels/conv.h"

/// The entries of each family, gathered by registry.cpp.
namespace bitstrata::kernels {

KernelEntry reference_entry();
std::vector<KernelEntry> bitplane_entries();
std::vector<KernelEntry> lookup_entries();
std::vector<KernelEntry> depthwise_entries();
std::vector<KernelEntry> int8_entries();
std::vector<KernelEntry> narrow_entries();    ///< of the int8 family
std::vector<KernelEntry> winograd_entries();  ///< of the int8 family
std::vector<KernelEntry> nibble_entries();    ///< of the int8 family, fully connected layers only

}  // namespace bitstrata::kernels
