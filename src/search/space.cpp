#include "search/space.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "core/error.h"
#include "plan/scheme.h"
#include "quant/packing.h"

namespace bitstrata::search {
namespace {

using plan::Target;

using LatencyIndex = std::map<std::tuple<std::string, int, int>, double>;

LatencyIndex index_latency(const LatencyTable& table) {
  const auto is_time = [](double ms) { return std::isfinite(ms) && ms >= 0; };
  if (!is_time(table.fixed_ms)) {
    fail(ErrorCode::kInvalidArgument,
         "latency table: found {} ms for the rest of the network, expected a number >= 0", table.fixed_ms);
  }
  LatencyIndex index;
  for (const LatencyTable::Entry& entry : table.entries) {
    if (!is_time(entry.ms)) {
      fail(ErrorCode::kInvalidArgument,
           "latency table: layer '{}' at {} x {} bits: found {} ms, expected a number >= 0",
           printable(entry.layer), entry.weight_bits, entry.activation_bits, entry.ms);
    }
    if (!index.emplace(std::tuple(entry.layer, entry.weight_bits, entry.activation_bits), entry.ms).second) {
      fail(ErrorCode::kInvalidArgument, "latency table: layer '{}' at {} x {} bits is listed twice",
           printable(entry.layer), entry.weight_bits, entry.activation_bits);
    }
  }
  return index;
}

double latency_of(const LatencyIndex& index, const std::string& layer, int weight_bits, int activation_bits) {
  const auto found = index.find({layer, weight_bits, activation_bits});
  if (found == index.end()) {
    fail(ErrorCode::kInvalidArgument,
         "latency table: layer '{}' at {} x {} bits is missing; measure the table for this network and these "
         "candidates",
         printable(layer), weight_bits, activation_bits);
  }
  return found->second;
}

std::vector<int> checked_candidates(std::vector<int> bits) {
  std::sort(bits.begin(), bits.end(), std::greater<>());
  bits.erase(std::unique(bits.begin(), bits.end()), bits.end());
  if (bits.empty() || bits.front() > 8 || bits.back() < 1) {
    fail(ErrorCode::kInvalidArgument, "search: found candidates [{}], expected bit-widths in 1..8",
         fmt::join(bits, ", "));
  }
  return bits;
}

void add_target(Space& space, const graph::Graph& graph, const Target& target, const LatencyIndex* latency) {
  double weights = 0;
  for (const Layer& layer : space.layers) weights += static_cast<double>(layer.weights);
  const auto add = [&](CostKind kind, double at_most) {
    space.limits.push_back({kind, at_most, plan::to_string(target)});
  };
  const auto need_latency = [&] {
    if (latency == nullptr) {
      fail(ErrorCode::kInvalidArgument,
           "--target {}: no latency table given; measure one on this machine first", plan::to_string(target));
    }
  };
  switch (target.kind) {
    case Target::Kind::kAvgBits:
      return add(CostKind::kWeightBits, target.value * weights);
    case Target::Kind::kSizeBytes:
      return add(CostKind::kSizeBytes, target.value);
    case Target::Kind::kCompression:
      return add(CostKind::kSizeBytes, 4 * weights / target.value);
    case Target::Kind::kBitOps:
      return add(CostKind::kBitOps, target.value);
    case Target::Kind::kUniformBitOps: {
      const auto uniform = plan::uniform_plan(graph, static_cast<int>(target.value), target.activation_bits,
                                              quant::Policy::kLsq, false);
      return add(CostKind::kBitOps, plan::figures(graph, uniform).bitops);
    }
    case Target::Kind::kLatencyMs:
      need_latency();
      return add(CostKind::kLatencyMs, target.value);
    case Target::Kind::kLatencyRatio: {
      need_latency();
      double full_ms = space.fixed_latency_ms;
      for (const Layer& layer : space.layers) full_ms += latency_of(*latency, layer.name, 8, 8);
      return add(CostKind::kLatencyMs, target.value * full_ms);
    }
    case Target::Kind::kDrop: {
      const double drop = std::min(target.value / 100, 1.0);
      space.max_drop = std::min(space.max_drop.value_or(drop), drop);
      return;
    }
  }
}

}  // namespace

const char* to_string(CostKind kind) noexcept {
  switch (kind) {
    case CostKind::kWeightBits:
      return "weight bits";
    case CostKind::kSizeBytes:
      return "size";
    case CostKind::kBitOps:
      return "bitops";
    case CostKind::kLatencyMs:
      return "latency";
  }
  return "";
}

std::vector<BitPair> Space::candidates(size_t layer) const {
  const Layer& l = layers.at(layer);
  std::vector<BitPair> pairs;
  for (int weight : l.weight_bits) {
    if (tied && l.activation_bits.size() != 1) {
      pairs.push_back({weight, weight});
      continue;
    }
    for (int activation : l.activation_bits) pairs.push_back({weight, activation});
  }
  return pairs;
}

bool Space::has_latency() const noexcept {
  return !layers.empty() &&
         std::all_of(layers.begin(), layers.end(), [](const Layer& l) { return !l.latency_ms.empty(); });
}

double Space::cost(CostKind kind, size_t layer, BitPair bits) const {
  const Layer& l = layers.at(layer);
  switch (kind) {
    case CostKind::kWeightBits:
      return static_cast<double>(l.weights) * bits.weight;
    case CostKind::kSizeBytes:
      return static_cast<double>(quant::packed_bytes(static_cast<size_t>(l.weights), bits.weight));
    case CostKind::kBitOps:
      return static_cast<double>(l.macs) * bits.weight * bits.activation;
    case CostKind::kLatencyMs:
      break;
  }
  const auto w = std::find(l.weight_bits.begin(), l.weight_bits.end(), bits.weight);
  const auto a = std::find(l.activation_bits.begin(), l.activation_bits.end(), bits.activation);
  const size_t index = static_cast<size_t>(w - l.weight_bits.begin()) * l.activation_bits.size() +
                       static_cast<size_t>(a - l.activation_bits.begin());
  if (w == l.weight_bits.end() || a == l.activation_bits.end() || index >= l.latency_ms.size()) {
    fail(ErrorCode::kInvalidArgument, "latency of layer '{}': {} x {} bits are not in its table",
         printable(l.name), bits.weight, bits.activation);
  }
  return l.latency_ms[index];
}

double Space::cost(CostKind kind, const Assignment& assignment) const {
  if (assignment.size() != layers.size()) {
    fail(ErrorCode::kInvalidArgument, "search: found bits of {} layers, the space has {}", assignment.size(),
         layers.size());
  }
  double sum = kind == CostKind::kLatencyMs ? fixed_latency_ms : 0;
  for (size_t i = 0; i < layers.size(); ++i) sum += cost(kind, i, assignment[i]);
  return sum;
}

double Space::violation(const Assignment& assignment) const {
  double worst = 0;
  for (const Limit& limit : limits) worst = std::max(worst, cost(limit.kind, assignment) / limit.at_most - 1);
  return worst;
}

Assignment Space::highest() const {
  Assignment result;
  for (size_t i = 0; i < layers.size(); ++i) result.push_back(candidates(i).front());
  return result;
}

Assignment Space::lowest() const {
  Assignment result;
  for (size_t i = 0; i < layers.size(); ++i) result.push_back(candidates(i).back());
  return result;
}

Space make_space(const graph::Graph& graph, const SpaceOptions& options) {
  const std::vector<int> bits = checked_candidates(options.bits);
  if (options.activation_bits < 0 || options.activation_bits > 8) {
    fail(ErrorCode::kInvalidArgument,
         "search: found activation bits {}, expected 1 to 8, or 0 to search them", options.activation_bits);
  }
  const std::vector<int> inputs =
      options.activation_bits == 0 ? bits : std::vector<int>{options.activation_bits};
  std::optional<LatencyIndex> latency;
  if (options.latency) latency = index_latency(*options.latency);
  Space space;
  space.tied = options.tied;
  if (options.latency) space.fixed_latency_ms = options.latency->fixed_ms;
  for (const graph::Node& node : graph.nodes) {
    Layer layer;
    if (const auto* conv = std::get_if<graph::Conv>(&node.kind))
      layer.weights = static_cast<int64_t>(conv->weights.size());
    if (const auto* linear = std::get_if<graph::Linear>(&node.kind))
      layer.weights = static_cast<int64_t>(linear->weights.size());
    if (layer.weights == 0) continue;
    layer.name = node.name;
    layer.macs = graph::macs(graph, node);
    layer.inputs =
        static_cast<int64_t>(program::elements(graph.values[static_cast<size_t>(node.inputs.at(0))].dims));
    layer.weight_bits = bits;
    layer.activation_bits = plan::is_graph_input(graph, node.inputs.at(0)) ? std::vector<int>{8} : inputs;
    if (latency) {
      for (int w : layer.weight_bits) {
        for (int a : layer.activation_bits) {
          // A tied space never asks for unequal widths, so a table of the ladder alone will do there.
          const bool unused = options.tied && layer.activation_bits.size() != 1 && w != a;
          layer.latency_ms.push_back(unused ? 0 : latency_of(*latency, layer.name, w, a));
        }
      }
    }
    space.layers.push_back(std::move(layer));
  }
  if (space.layers.empty()) fail(ErrorCode::kBadInput, "search: the network has no Conv or Linear layer");
  for (const Target& target : options.targets)
    add_target(space, graph, target, latency ? &*latency : nullptr);
  return space;
}

plan::Plan to_plan(const graph::Graph& graph, const Space& space, const Assignment& assignment,
                   quant::Policy policy, bool per_channel) {
  plan::Plan result = plan::uniform_plan(graph, 8, 8, policy, per_channel);
  if (assignment.size() != space.layers.size() || result.layers.size() != space.layers.size()) {
    fail(ErrorCode::kInvalidArgument, "search: found bits of {} layers, the space has {} and the network {}",
         assignment.size(), space.layers.size(), result.layers.size());
  }
  for (size_t i = 0; i < assignment.size(); ++i) {
    if (result.layers[i].name != space.layers[i].name) {
      fail(ErrorCode::kInvalidArgument, "search: layer {} is '{}' in the network, '{}' in the space", i,
           printable(result.layers[i].name), printable(space.layers[i].name));
    }
    result.layers[i].weight_bits = assignment[i].weight;
    result.layers[i].activation_bits = assignment[i].activation;
  }
  for (const Limit& limit : space.limits) result.targets.push_back(limit.text);
  return result;
}

}  // namespace bitstrata::search
