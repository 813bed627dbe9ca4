#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace bitstrata::kernels {

/// Memory that begins a cache line, so that no aligned vector in it lies in two.
template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  LineAllocator() = default;
  template <typename U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* at, size_t) noexcept { ::operator delete(at, kLine); }
  bool operator==(const LineAllocator&) const = default;
};

/// For operands that vectors are loaded from.
template <typename T>
using LineVector = std::vector<T, LineAllocator<T>>;

}  // namespace bitstrata::kernels
