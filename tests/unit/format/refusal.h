#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <string>

#include "core/error.h"
#include "format/bst.h"

namespace bitstrata::format {

/// Decodes bytes that must be refused with kCorruptFile or kUnsupported in one line, and returns that line.
/// Another exception leaves this function and fails the test.
inline std::string refusal(std::span<const uint8_t> bytes, const std::string& what = "") {
  try {
    decode(bytes, "broken.bst");
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ErrorCode::kCorruptFile || error.code() == ErrorCode::kUnsupported)
        << what << ": " << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << what;
    EXPECT_EQ(std::string(error.what()).rfind("broken.bst: ", 0), 0u) << what << ": " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "damaged file was accepted: " << what;
  return "";
}

}  // namespace bitstrata::format
