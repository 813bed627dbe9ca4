#pragma once

#include <string>

#include "compile/lower.h"

namespace bitstrata::compile {

/// Quantizers as JSON text; every float survives the round trip.
std::string to_json(const Quantizers& quantizers);

/// Inverse of to_json. kCorruptFile or kBadInput, naming `name`, for anything to_json would not write.
Quantizers quantizers_from_json(const std::string& text, const std::string& name);

}  // namespace bitstrata::compile
