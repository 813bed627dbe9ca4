#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace bitstrata::kernels {

#ifdef _OPENMP
inline int max_threads() noexcept {
  return omp_get_max_threads();
}
inline int thread_index() noexcept {
  return omp_get_thread_num();
}
/// Threads of the parallel region that the caller is in.
inline int team_size() noexcept {
  return omp_get_num_threads();
}

/// Sets the number of threads of the parallel regions that the calling thread starts, and restores it at the
/// end of the scope.
class ScopedThreads {
 public:
  explicit ScopedThreads(int threads) noexcept : before_(omp_get_max_threads()) {
    if (threads != before_) omp_set_num_threads(threads);
  }
  ~ScopedThreads() {
    if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
  }
  ScopedThreads(const ScopedThreads&) = delete;
  ScopedThreads& operator=(const ScopedThreads&) = delete;

 private:
  int before_;
};
#else
inline int max_threads() noexcept {
  return 1;
}
inline int thread_index() noexcept {
  return 0;
}
inline int team_size() noexcept {
  return 1;
}

class ScopedThreads {
 public:
  explicit ScopedThreads(int) noexcept {}
};
#endif

}  // namespace bitstrata::kernels
