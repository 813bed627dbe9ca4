#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "plan/plan.h"

/// Searching for bit-widths, on numbers alone: this module knows neither LibTorch nor files.
namespace bitstrata::search {

/// Bits of one layer: of its weights and of its input.
struct BitPair {
  int weight = 8, activation = 8;
  auto operator<=>(const BitPair&) const = default;
};

/// A complete choice: one pair per layer of the Space, in its order.
using Assignment = std::vector<BitPair>;

/// What a plan costs; each is a sum over layers.
enum class CostKind {
  kWeightBits,  ///< sum of weights * weight bits; the average is this over all weights
  kSizeBytes,   ///< packed weights, quant::packed_bytes per layer
  kBitOps,      ///< sum of MACs * weight bits * activation bits
  kLatencyMs,   ///< predicted from a measured table, plus the time of everything that is no layer
};
inline constexpr CostKind kAllCosts[] = {CostKind::kWeightBits, CostKind::kSizeBytes, CostKind::kBitOps, CostKind::kLatencyMs};
const char* to_string(CostKind kind) noexcept;

/// One competing layer.
struct Layer {
  std::string name;
  int64_t weights = 0;  ///< elements
  int64_t macs = 0;     ///< per image
  int64_t inputs = 0;   ///< elements of the input per image
  std::vector<int> weight_bits;      ///< candidates, descending
  std::vector<int> activation_bits;  ///< candidates, descending; a single one where the width is given (pixels)
  /// Milliseconds of weight_bits[i] x activation_bits[j] at [i * activation_bits.size() + j]; empty without a table.
  std::vector<double> latency_ms;
};

/// An upper bound on a cost.
struct Limit {
  CostKind kind = CostKind::kSizeBytes;
  double at_most = 0;
  std::string text;  ///< the target it came from, for messages
};

/// The search space of one network: layers, candidates, costs and limits. A value; safe to share between threads when const.
struct Space {
  std::vector<Layer> layers;
  bool tied = true;  ///< candidate pairs use the same width for weights and input (where the input's is not given)
  std::vector<std::vector<int>> ties;  ///< groups of layers (indices) that must share their pair; layers in no group are free
  double fixed_latency_ms = 0;         ///< of all that is no layer
  std::vector<Limit> limits;
  std::optional<double> max_drop;      ///< largest loss of held-out accuracy against the float network, in [0, 1]

  /// Candidate pairs of a layer, from most to fewest bits: the ladder (b, b) when tied, else all pairs, weight bits first.
  std::vector<BitPair> candidates(size_t layer) const;
  bool has_latency() const noexcept;
  /// Cost of one layer. kInvalidArgument when the pair is no candidate of a latency table.
  double cost(CostKind kind, size_t layer, BitPair bits) const;
  double cost(CostKind kind, const Assignment& assignment) const;
  /// max over limits of cost / at_most - 1, or 0 when all hold: how far a plan is from its targets.
  double violation(const Assignment& assignment) const;
  bool feasible(const Assignment& assignment) const { return violation(assignment) <= 1e-12; }
  Assignment highest() const;  ///< every layer at its most bits
  Assignment lowest() const;   ///< every layer at its fewest
};

/// Milliseconds of a layer on this machine by (layer name, weight bits, activation bits), and of the rest of the network.
struct LatencyTable {
  struct Entry {
    std::string layer;
    int weight_bits = 0, activation_bits = 0;
    double ms = 0;
  };
  std::vector<Entry> entries;
  double fixed_ms = 0;
};

struct SpaceOptions {
  std::vector<int> bits = {1, 2, 3, 4, 5, 6, 7, 8};  ///< candidate widths, each in 1..8
  int activation_bits = 0;  ///< every input at this width; 0: searched
  bool tied = true;
  std::vector<plan::Target> targets;
  std::optional<LatencyTable> latency;  ///< needed by latency targets
};

/// The space of all Conv and Linear layers of a graph. Layers whose input is the network's own input keep 8 bits there. kLatencyRatio targets
/// are relative to the network at 8 x 8 bits in the same table. kInvalidArgument for empty or bad candidates, or a latency target without table.
Space make_space(const graph::Graph& graph, const SpaceOptions& options);

/// The plan of an assignment: `uniform_plan` with its bits, streams at 8 bits.
plan::Plan to_plan(const graph::Graph& graph, const Space& space, const Assignment& assignment, quant::Policy policy, bool per_channel);

}  // namespace bitstrata::search
