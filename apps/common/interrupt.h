#pragma once

#include <atomic>

namespace bitstrata::cli {

/// From now on the first SIGINT or SIGTERM sets interrupted() and nothing else; the second one ends the
/// process.
void catch_interrupts() noexcept;

/// Whether an interrupt has come. Long loops read it, save their state and throw Error(kInterrupted).
const std::atomic<bool>& interrupted() noexcept;

}  // namespace bitstrata::cli
