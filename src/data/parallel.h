#pragma once

// Inside the module: a loop over independent items.

#include <cstddef>
#include <functional>

namespace bitstrata::data {

/// Threads to use for a request: `threads` itself, or all cores when it is 0 or less.
int resolve_threads(int threads) noexcept;

/// Calls body(begin, end) for pieces of at most `grain` items that together cover [0, count) once, on at most
/// `threads` threads, the caller's among them. When bodies throw, the exception of the lowest piece is
/// rethrown, whatever the thread count.
void parallel_for(size_t count, size_t grain, int threads, const std::function<void(size_t, size_t)>& body);

}  // namespace bitstrata::data
