#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace bitstrata {

/// What kind of failure an Error reports. The command line maps these to exit statuses (exit_status below).
enum class ErrorCode {
  kInvalidArgument,  ///< the caller or user asked for something that makes no sense (wrong usage)
  kUnsupported,      ///< valid input that this program cannot handle (operator, attribute, ISA)
  kCorruptFile,      ///< a file's bytes contradict its format (truncated, flipped, oversized)
  kIo,               ///< the operating system refused (missing folder, no permission, disk full)
  kNotFound,         ///< a named thing (layer, class, tensor) does not exist
  kBadInput,         ///< readable input of the wrong kind (wrong shape, classes differ, not an image)
  kJobFailed,        ///< the job ran but its goal was not reached (mismatch found, target not met)
  kInterrupted,      ///< stopped by SIGINT or SIGTERM after saving; the message says how to resume
  kInternal,         ///< a bug in this program
};

/// The one exception type that crosses module borders. `what()` is one line: what, where (file, node, offset),
/// what was found, what was expected, what to do about it.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, std::string message) : std::runtime_error(std::move(message)), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

/// Throws Error(code, fmt::format(pattern, args...)).
template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> pattern, Args&&... args) {
  throw Error(code, fmt::format(pattern, std::forward<Args>(args)...));
}

/// Exit status of the command line for a failure: 1 the job failed or was interrupted, 2 wrong usage, 3 bad input,
/// 1 for internal errors.
int exit_status(ErrorCode code) noexcept;

/// Stable lower-case name of a code, as in "corrupt-file".
const char* to_string(ErrorCode code) noexcept;

/// Returns `text` on one line with control characters escaped and at most `limit_bytes` bytes, so that names read
/// from files can be put into messages.
std::string printable(const std::string& text, size_t limit_bytes = 200);

}  // namespace bitstrata
