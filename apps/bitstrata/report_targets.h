#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "graph/graph.h"

namespace bitstrata::cli {

/// What a job has reached, as far as it is known; accuracies in 0..1.
struct Reached {
  std::optional<double> float_accuracy, accuracy, weight_bytes, compression, avg_weight_bits, bitops;
  std::optional<double> latency_ms,
      full_latency_ms;  ///< predicted, of the plan and of the network at 8 x 8 bits
};

/// One target of a job: {"text", "reached", "met"}; reached and met are null where they cannot be known.
/// `graph`: the network of the job, where it is at hand; it says what "bitops=3x3" means.
nlohmann::ordered_json judge_target(const std::string& text, const Reached& reached,
                                    const graph::Graph* graph);

}  // namespace bitstrata::cli
