#include "data/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace bitstrata::data {

int resolve_threads(int threads) noexcept {
  return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(size_t count, size_t grain, int threads, const std::function<void(size_t, size_t)>& body) {
  grain = std::max<size_t>(grain, 1);
  const size_t pieces = (count + grain - 1) / grain;
  const size_t workers = std::min(pieces, static_cast<size_t>(resolve_threads(threads)));
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  size_t failed_piece = pieces;
  std::exception_ptr error;

  // Pieces are taken in order, so when one fails all lower ones have been taken and will report too.
  const auto work = [&] {
    while (!failed) {
      const size_t piece = next++;
      if (piece >= pieces) return;
      try {
        body(piece * grain, std::min(count, (piece + 1) * grain));
      } catch (...) {
        const std::lock_guard lock(mutex);
        failed = true;
        if (piece < failed_piece) {
          failed_piece = piece;
          error = std::current_exception();
        }
      }
    }
  };
  if (workers > 1) {
    std::vector<std::jthread> helpers;
    for (size_t i = 1; i < workers; ++i) helpers.emplace_back(work);
    work();
  } else {
    work();
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace bitstrata::data
