#pragma once

#include <cstddef>

namespace bitstrata::format {

/// Size in bytes of the largest operator new request since the last reset_largest_allocation(), over all
/// threads.
size_t largest_allocation() noexcept;
void reset_largest_allocation() noexcept;

}  // namespace bitstrata::format
