#include "tests/unit/format/largest_allocation.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<size_t> largest_bytes{0};

}  // namespace

void* operator new(size_t size) {
  size_t seen = largest_bytes.load();
  while (seen < size && !largest_bytes.compare_exchange_weak(seen, size)) {
  }
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace bitstrata::format {

size_t largest_allocation() noexcept {
  return largest_bytes.load();
}
void reset_largest_allocation() noexcept {
  largest_bytes.store(0);
}

}  // namespace bitstrata::format
