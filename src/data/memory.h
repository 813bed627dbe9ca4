#pragma once

// Inside the module: guards against data that cannot fit.

#include <cstdint>
#include <string>

namespace bitstrata::data {

/// Main memory of this machine.
uint64_t memory_bytes() noexcept;

/// kUnsupported, naming `where`, when `count` items of `item_bytes` exceed main memory.
void check_fits_memory(uint64_t count, uint64_t item_bytes, const std::string& where);

}  // namespace bitstrata::data
