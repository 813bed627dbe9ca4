#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "bitstrata/bitstrata.h"
#include "format/bst.h"

namespace bitstrata::testing {

using ModelHandle = std::unique_ptr<bitstrata_model, decltype(&bitstrata_model_free)>;
using SessionHandle = std::unique_ptr<bitstrata_session, decltype(&bitstrata_session_free)>;

inline ModelHandle load(const program::Program& network, const bitstrata_options* options = nullptr) {
  const std::vector<uint8_t> bytes = format::encode(network);
  bitstrata_model* model = nullptr;
  EXPECT_EQ(bitstrata_model_load_memory(bytes.data(), bytes.size(), options, &model), BITSTRATA_OK)
      << bitstrata_last_error();
  return {model, bitstrata_model_free};
}

inline SessionHandle make_session(const ModelHandle& model) {
  bitstrata_session* session = nullptr;
  EXPECT_EQ(bitstrata_session_create(model.get(), &session), BITSTRATA_OK) << bitstrata_last_error();
  return {session, bitstrata_session_free};
}

}  // namespace bitstrata::testing
