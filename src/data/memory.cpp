#include "data/memory.h"

#include <unistd.h>

#include "core/error.h"

namespace bitstrata::data {

uint64_t memory_bytes() noexcept {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

void check_fits_memory(uint64_t count, uint64_t item_bytes, const std::string& where) {
  uint64_t bytes = 0;
  if (!__builtin_mul_overflow(count, item_bytes, &bytes) && bytes <= memory_bytes()) return;
  fail(ErrorCode::kUnsupported,
       "{} does not fit in memory: {} images of {} bytes each, the machine has {} bytes; use fewer or "
       "smaller images",
       printable(where), count, item_bytes, memory_bytes());
}

}  // namespace bitstrata::data
