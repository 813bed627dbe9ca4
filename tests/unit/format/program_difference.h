#pragma once

#include <string>

#include "program/program.h"

namespace bitstrata::format {

/// Names the first field in which two programs differ, floats compared bit for bit; empty when they are
/// equal.
std::string first_difference(const program::Program& a, const program::Program& b);

}  // namespace bitstrata::format
