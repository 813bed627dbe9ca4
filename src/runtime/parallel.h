#pragma once

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace bitstrata::runtime {

/// Calls body(index, thread) for every index below `count` on up to `threads` OpenMP threads, thread in [0,
/// threads).
template <typename Body>
void parallel_for(int threads, int64_t count, const Body& body) noexcept {
#ifdef _OPENMP
  if (threads > 1 && count > 1) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; ++i) body(i, omp_get_thread_num());
    return;
  }
#endif
  for (int64_t i = 0; i < count; ++i) body(i, 0);
}

}  // namespace bitstrata::runtime
