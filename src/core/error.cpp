#include "core/error.h"

namespace bitstrata {

int exit_status(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument: return 2;
    case ErrorCode::kUnsupported:
    case ErrorCode::kCorruptFile:
    case ErrorCode::kIo:
    case ErrorCode::kNotFound:
    case ErrorCode::kBadInput: return 3;
    case ErrorCode::kJobFailed:
    case ErrorCode::kInterrupted:
    case ErrorCode::kInternal: return 1;
  }
  return 1;
}

const char* to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid-argument";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kCorruptFile: return "corrupt-file";
    case ErrorCode::kIo: return "io";
    case ErrorCode::kNotFound: return "not-found";
    case ErrorCode::kBadInput: return "bad-input";
    case ErrorCode::kJobFailed: return "job-failed";
    case ErrorCode::kInterrupted: return "interrupted";
    case ErrorCode::kInternal: return "internal";
  }
  return "internal";
}

std::string printable(const std::string& text, size_t limit_bytes) {
  std::string line;
  for (unsigned char c : text) {
    if (line.size() >= limit_bytes) return line + "...";
    if (c < 0x20 || c == 0x7f) {
      line += fmt::format("\\x{:02x}", c);
    } else {
      line += static_cast<char>(c);
    }
  }
  return line;
}

}  // namespace bitstrata
