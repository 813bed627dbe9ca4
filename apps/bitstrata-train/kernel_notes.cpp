#include "kernel_notes.h"

#include <algorithm>
#include <map>
#include <vector>

#include "core/error.h"
#include "kernels/conv.h"
#include "plan/layer_shape.h"
#include "quant/weights.h"

namespace bitstrata::cli {
namespace {

constexpr size_t kMostNamed = 3;
/// A width that saves less time than this is no faster: repeated measurements of one network differ by as
/// much.
constexpr double kTimeThatCounts = 0.03;

using Pairs = std::vector<search::BitPair>;

kernels::ConvProblem problem_of(const plan::LayerShape& shape, search::BitPair bits, quant::Policy policy) {
  kernels::ConvProblem problem;
  problem.ic = shape.in_channels;
  problem.ih = shape.height;
  problem.iw = shape.width;
  problem.oc = shape.out_channels;
  problem.groups = shape.groups;
  problem.window = shape.window;
  const auto extent = [](int in, int kernel, int stride, int dilation, int pads) {
    return (in + pads - dilation * (kernel - 1) - 1) / stride + 1;
  };
  const program::Window& w = shape.window;
  problem.oh = extent(shape.height, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top + w.pad_bottom);
  problem.ow = extent(shape.width, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left + w.pad_right);
  problem.w_bits = bits.weight;
  problem.grid = quant::grid_of(policy, bits.weight);
  problem.a_bits = bits.activation;
  problem.a_zero = shape.signed_input ? -(1 << (bits.activation - 1)) : 0;
  return problem;
}

bool is_slow(const kernels::ConvProblem& problem, Isa cap) {
  try {
    const kernels::KernelEntry& entry = kernels::select_conv(problem, cap);
    return entry.isa == Isa::kScalar || entry.family == kernels::Family::kReference;
  } catch (const Error&) {
    return false;  // what no kernel computes is refused, with its reason, by the search or by compile
  }
}

/// The pairs that a layer may get.
Pairs candidates(const JobOptions& options, const plan::NamedShape& layer) {
  const SearchArguments& search = options.search;
  const bool tied = search.tied.value_or(search.method != "ebs");
  Pairs pairs;
  for (int weight : search.bits) {
    if (layer.reads_graph_input) {
      pairs.push_back({weight, 8});
    } else if (search.activation_bits > 0) {
      pairs.push_back({weight, search.activation_bits});
    } else if (tied) {
      pairs.push_back({weight, weight});
    } else {
      for (int activation : search.bits) pairs.push_back({weight, activation});
    }
  }
  return pairs;
}

std::string named(const std::vector<std::string>& names) {
  const std::vector<std::string> first(
      names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kMostNamed)));
  const std::string more =
      names.size() > kMostNamed ? fmt::format(" and {} more", names.size() - kMostNamed) : "";
  return fmt::format("{}{}", fmt::join(first, ", "), more);
}

}  // namespace

void warn_of_slow_kernels(Job& job, const graph::Graph& graph) {
  const JobOptions& options = job.options();
  std::optional<plan::Plan> plan;
  if (!options.plan.empty()) plan = plan::read_plan(options.plan);
  const quant::Policy policy = quant::parse_policy(options.policy);
  const Isa cap = options.machine.resolved_isa();
  std::vector<std::string> layers;
  for (const plan::NamedShape& layer : plan::layer_shapes(graph)) {
    Pairs pairs = candidates(options, layer);
    if (plan) {
      const plan::LayerPlan* chosen = plan->find_layer(layer.layer);
      pairs.clear();
      if (chosen && !chosen->is_float()) pairs.push_back({chosen->weight_bits, chosen->activation_bits});
    }
    std::vector<std::string> slow;
    for (const search::BitPair& bits : pairs) {
      if (is_slow(problem_of(layer.shape, bits, policy), cap))
        slow.push_back(fmt::format("W{}A{}", bits.weight, bits.activation));
    }
    if (!slow.empty()) layers.push_back(fmt::format("{} ({})", printable(layer.layer, 60), named(slow)));
  }
  if (layers.empty()) return;
  job.log(
      fmt::format("warning: with {} these layers have no fast kernel at some of the bits and would run on a "
                  "scalar one: {}",
                  to_string(cap), named(layers)));
}

std::optional<std::string> note_on_speed(const search::LatencyTable& table) {
  // Layers that read the network's input have 8 activation bits at every width of the weights.
  std::map<std::string, bool> reads_input;
  for (const auto& entry : table.entries) {
    const auto [found, unused] = reads_input.try_emplace(entry.layer, true);
    found->second = found->second && entry.activation_bits == 8;
  }
  std::map<int, double> ms;
  for (const auto& entry : table.entries) {
    if (entry.activation_bits == (reads_input[entry.layer] ? 8 : entry.weight_bits))
      ms[entry.weight_bits] += entry.ms;
  }
  std::vector<int> no_faster;
  for (const auto& [bits, total] : ms) {
    if (bits < 8 && ms.contains(8) && total >= (1 - kTimeThatCounts) * ms[8]) no_faster.push_back(bits);
  }
  if (no_faster.empty()) return std::nullopt;
  return fmt::format(
      "by the latency table, {} bits take as long here as 8x8: they make the network smaller, not faster",
      fmt::join(no_faster, ", "));
}

}  // namespace bitstrata::cli
