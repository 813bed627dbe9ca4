#pragma once

#include <string>

#include "graph/graph.h"

namespace bitstrata::graph {

/// "[3, 32, 32]", for messages.
std::string to_string(const Dims& dims);

/// Product of `dims`. kBadInput, naming `where`, unless every dim is >= 1 and the product at most
/// program::kMaxElements.
int64_t checked_elements(const Dims& dims, const std::string& where);

}  // namespace bitstrata::graph
