#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "quant/policy.h"

namespace bitstrata::plan {

/// Bits of one Conv or Linear. Both widths are in 1..8, or both 0: the layer stays float.
struct LayerPlan {
  std::string name;
  int weight_bits = 8;
  int activation_bits = 8;  ///< of the layer's input
  quant::Policy policy = quant::Policy::kLsq;
  bool per_channel = false;  ///< weight scales per output channel
  bool is_float() const noexcept { return weight_bits == 0; }
  bool operator==(const LayerPlan&) const = default;
};

/// Bits of a value that other arithmetic reads (residual adds, pooling, ...); 0 stays float.
struct StreamPlan {
  std::string value;
  int bits = 8;
  bool operator==(const StreamPlan&) const = default;
};

/// What a plan costs, from the graph alone.
struct Figures {
  int64_t weights = 0;             ///< elements of all conv and fc weights
  int64_t weight_bytes = 0;        ///< of these, packed at their bits (float layers 4 bytes each)
  double compression = 1;          ///< 4 * weights / weight_bytes
  double avg_weight_bits = 32;     ///< mean over weights
  double avg_activation_bits = 32; ///< mean over the elements of all layers' inputs
  double bitops = 0;               ///< sum of MACs * weight bits * activation bits (float layers 32 x 32)
};

/// A kind of limit, as in --target size=10x. kUniformBitOps: no more than the uniform plan at `value` weight and `activation_bits` bits.
struct Target {
  enum class Kind { kAvgBits, kSizeBytes, kCompression, kBitOps, kUniformBitOps, kLatencyMs, kLatencyRatio, kDrop } kind;
  double value = 0;
  int activation_bits = 0;  ///< of kUniformBitOps only
};

/// Parses "avg-bits=3", "size=10x", "size=70KB", "bitops=0.4G", "bitops=3x3", "latency=2ms", "latency=0.5x", "drop=0.5". kInvalidArgument
/// otherwise.
Target parse_target(std::string_view text);
std::string to_string(const Target& target);

/// Bits for every quantizable layer and stream of one graph: the waist between search and everything after. plan.json is its text form.
struct Plan {
  std::string method = "uniform";
  std::vector<LayerPlan> layers;    ///< in graph order, all Conv and Linear nodes
  std::vector<StreamPlan> streams;  ///< in graph order, all stream values
  std::vector<std::string> targets; ///< what it was searched for, as given
  std::map<std::string, double> sensitivity;  ///< per layer, where the method yields one

  const LayerPlan* find_layer(std::string_view name) const noexcept;
  const StreamPlan* find_stream(std::string_view value) const noexcept;
};

/// Every layer at the same bits; the first layer's input (8-bit pixels) and the streams at 8. Graph input layers are those whose activation comes
/// from the graph input through data movement only. bits 0: an all-float plan.
Plan uniform_plan(const graph::Graph& graph, int weight_bits, int activation_bits, quant::Policy policy, bool per_channel);

/// Figures of a plan; the plan must fit the graph (check_plan).
Figures figures(const graph::Graph& graph, const Plan& plan);

/// Checks that the plan names exactly the graph's layers and streams, with bits in range. kBadInput naming the first problem.
void check_plan(const graph::Graph& graph, const Plan& plan);

/// plan.json. Unknown or ill-typed keys are kBadInput with the key named; syntax errors kCorruptFile with the position.
std::string to_json(const Plan& plan, const Figures& figures);
Plan from_json(const std::string& text, const std::string& name);
Plan read_plan(const std::filesystem::path& path);

}  // namespace bitstrata::plan
