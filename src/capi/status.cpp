#include "capi/handles.h"
#include "format/container.h"

namespace bitstrata::capi {
namespace {

constexpr size_t kMessageBytes = 2048;
thread_local char last_message[kMessageBytes] = "";

}  // namespace

bitstrata_status remember(bitstrata_status status, const char* message) noexcept {
  size_t length = strnlen(message, kMessageBytes);
  if (length == kMessageBytes) {
    --length;
    // Not within a character: bytes 10xxxxxx continue one.
    while (length > 0 && (static_cast<unsigned char>(message[length]) & 0xc0) == 0x80) --length;
  }
  std::memmove(last_message, message, length);
  last_message[length] = '\0';
  return status;
}

bitstrata_status to_status(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return BITSTRATA_INVALID_ARGUMENT;
    case ErrorCode::kUnsupported:
      return BITSTRATA_UNSUPPORTED;
    case ErrorCode::kCorruptFile:
      return BITSTRATA_CORRUPT_FILE;
    case ErrorCode::kIo:
      return BITSTRATA_IO;
    case ErrorCode::kNotFound:
      return BITSTRATA_NOT_FOUND;
    case ErrorCode::kBadInput:
      return BITSTRATA_BAD_INPUT;
    case ErrorCode::kJobFailed:    // of the tools only
    case ErrorCode::kInterrupted:  // of the tools only
    case ErrorCode::kInternal:
      break;
  }
  return BITSTRATA_INTERNAL;
}

}  // namespace bitstrata::capi

const char* bitstrata_status_name(bitstrata_status status) {
  switch (status) {
    case BITSTRATA_OK:
      return "ok";
    case BITSTRATA_INVALID_ARGUMENT:
      return "invalid-argument";
    case BITSTRATA_UNSUPPORTED:
      return "unsupported";
    case BITSTRATA_CORRUPT_FILE:
      return "corrupt-file";
    case BITSTRATA_IO:
      return "io";
    case BITSTRATA_NOT_FOUND:
      return "not-found";
    case BITSTRATA_BAD_INPUT:
      return "bad-input";
    case BITSTRATA_OUT_OF_MEMORY:
      return "out-of-memory";
    case BITSTRATA_INTERNAL:
      return "internal";
  }
  return "unknown";
}

const char* bitstrata_last_error(void) {
  return bitstrata::capi::last_message;
}

const char* bitstrata_version(void) {
  return BITSTRATA_VERSION;
}

uint32_t bitstrata_format_version(void) {
  return bitstrata::format::kVersion;
}
