#include "profile_network.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>

#include "buffers.h"
#include "common/host.h"
#include "common/progress.h"
#include "compile/lower.h"
#include "core/error.h"
#include "measure.h"
#include "plan/scheme.h"
#include "problem.h"
#include "quant/packing.h"
#include "quant/weights.h"

namespace bitstrata::cli {
namespace {

/// The type of codes of `base` at other bits, over the same range.
quant::CodeType type_with_bits(const quant::CodeType& base, int bits) {
  const int levels = 1 << bits;
  return {bits, base.zero == 0 ? 0 : -levels / 2,
          base.scale * static_cast<float>(base.levels()) / static_cast<float>(levels)};
}

/// Groups of tensors that data movement gives one type.
class TypeGroups {
 public:
  explicit TypeGroups(const program::Program& program) : parent_(program.tensors.size()) {
    std::iota(parent_.begin(), parent_.end(), size_t{0});
    for (const program::Op& op : program.ops) {
      if (program::is_arithmetic(op.kind)) continue;
      for (program::TensorId input : op.inputs) parent_[group(input)] = group(op.outputs[0]);
    }
  }
  size_t group(program::TensorId tensor) const {
    auto id = static_cast<size_t>(tensor);
    while (parent_[id] != id) id = parent_[id];
    return id;
  }

 private:
  std::vector<size_t> parent_;
};

const program::CodeWeights* code_weights(const program::Op& op) {
  const program::Weights* weights = nullptr;
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) weights = &conv->weights;
  if (const auto* linear = std::get_if<program::Linear>(&op.kind)) weights = &linear->weights;
  return weights ? std::get_if<program::CodeWeights>(weights) : nullptr;
}

/// Integer weights at other bits, by way of real ones of magnitude up to 1.
program::CodeWeights requantized(const program::CodeWeights& base, size_t count, int channels, int bits,
                                 quant::Policy policy) {
  const std::vector<uint8_t> codes = quant::unpack_codes(base.packed, count, base.bits);
  std::vector<float> weights(count);
  float largest = 1;
  for (size_t i = 0; i < count; ++i) {
    weights[i] = static_cast<float>(base.grid.at(codes[i]));
    largest = std::max(largest, std::abs(weights[i]));
  }
  for (float& weight : weights) weight /= largest;
  const quant::QuantizedWeights q = quant::quantize_weights(
      policy, bits, weights, channels, quant::initial_params(policy, bits, weights, channels, false));
  return {q.bits, q.grid, quant::pack_codes(q.codes, q.bits)};
}

program::Program requantized(program::Program network, int bits, quant::Policy policy) {
  for (program::Op& op : network.ops) {
    const program::CodeWeights* codes = code_weights(op);
    if (!codes || codes->bits == bits) continue;
    const size_t count = weight_elems(network, op);
    if (auto* conv = std::get_if<program::Conv>(&op.kind))
      conv->weights = requantized(*codes, count, conv->oc, bits, policy);
    else if (auto* linear = std::get_if<program::Linear>(&op.kind))
      linear->weights = requantized(*codes, count, linear->out, bits, policy);
  }
  return network;
}

program::Program lowered(const graph::Graph& graph, int weight_bits, quant::Policy policy) {
  const plan::Plan plan = plan::uniform_plan(graph, weight_bits, 8, policy, false);
  compile::Quantizers quantizers;
  float range = 1;
  const auto next_type = [&](graph::ValueId value) {
    range *= 1.001f;  // trained quantizers differ, and lowering would merge equal ones
    const bool nonnegative = graph::is_nonnegative(graph, value);
    return quant::CodeType{8, nonnegative ? 0 : -128, range / (nonnegative ? 255.0f : 127.0f)};
  };
  for (const graph::Node& node : graph.nodes) {
    const auto* conv = std::get_if<graph::Conv>(&node.kind);
    const auto* linear = std::get_if<graph::Linear>(&node.kind);
    if (!conv && !linear) continue;
    quantizers.layers[node.name] = {
        quant::initial_params(policy, weight_bits, conv ? conv->weights : linear->weights,
                              conv ? conv->oc : linear->out, false),
        next_type(node.inputs[0])};
  }
  for (graph::ValueId value : plan::stream_values(graph, plan::derive_scheme(graph))) {
    quantizers.streams[graph.values[static_cast<size_t>(value)].name] = next_type(value);
  }
  return compile::lower(graph, plan, quantizers);
}

/// One round of one network, prepared anew.
NetworkTimes measure_round(const program::Program& network, const runtime::Options& options,
                           const Effort& effort) {
  const auto model = runtime::Model::prepare(network, options);
  runtime::Session session(model);
  const int batch = options.max_batch;
  Buffers buffers(network, batch);
  std::vector<std::vector<double>> op_ms(network.ops.size());
  std::vector<double> outside_ms;
  session.run(buffers.input, batch, buffers.spans);
  const auto total_ms = measure_ms([&] { session.run(buffers.input, batch, buffers.spans); },
                                   effort.seconds / 2, effort.least_runs);
  const auto profiled_ms = measure_ms(
      [&] {
        const auto start = std::chrono::steady_clock::now();
        const auto times = session.profile(buffers.input, batch, buffers.spans);
        double outside =
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
        for (const auto& time : times) {
          op_ms[time.op_index].push_back(time.milliseconds);
          outside -= time.milliseconds;
        }
        outside_ms.push_back(outside);
      },
      effort.seconds / 2, effort.least_runs);

  NetworkTimes times;
  times.total_us = 1e3 * quantile(total_ms, 0.5);
  times.fixed_us = 1e3 * quantile(outside_ms, 0.5);
  for (size_t i = 0; i < network.ops.size(); ++i) {
    const program::Op& op = network.ops[i];
    const double us = 1e3 * quantile(op_ms[i], 0.5);
    if (!code_weights(op)) {
      times.fixed_us += us;
      continue;
    }
    const OpBits bits = op_bits(network, op);
    times.layers.push_back(
        {op.name, model->kernel_name(i), plan::shape_of(network, op), bits.w_bits, bits.a_bits, us});
  }
  return times;
}

/// Keeps the least of both.
void merge(NetworkTimes& into, const NetworkTimes& other) {
  into.total_us = std::min(into.total_us, other.total_us);
  into.fixed_us = std::min(into.fixed_us, other.fixed_us);
  for (size_t i = 0; i < into.layers.size(); ++i)
    into.layers[i].us = std::min(into.layers[i].us, other.layers[i].us);
}

/// The samples of one shape at one pair.
struct Samples {
  std::string kernel;
  std::vector<double> us;
};

class TableMaker {
 public:
  void add(const NetworkTimes& times) {
    for (const auto& layer : times.layers) {
      const size_t s = shape_index(layer.shape);
      auto& names = table_.shapes[s].layers;
      if (std::ranges::find(names, layer.name) == names.end()) names.push_back(layer.name);
      Samples& samples = samples_[s][{layer.weight_bits, layer.activation_bits}];
      samples.kernel = layer.kernel;
      samples.us.push_back(layer.us);
    }
  }

  plan::LatencyTable finish() {
    for (size_t s = 0; s < samples_.size(); ++s) {
      for (const auto& [bits, samples] : samples_[s]) {
        table_.shapes[s].entries.push_back(
            {bits.first, bits.second, samples.kernel, quantile(samples.us, 0.5)});
      }
    }
    return std::move(table_);
  }

 private:
  size_t shape_index(const plan::LayerShape& shape) {
    for (size_t s = 0; s < table_.shapes.size(); ++s) {
      if (table_.shapes[s].shape == shape) return s;
    }
    table_.shapes.push_back({shape, {}, {}});
    samples_.emplace_back();
    return table_.shapes.size() - 1;
  }

  plan::LatencyTable table_;
  std::vector<std::map<std::pair<int, int>, Samples>> samples_;
};

}  // namespace

plan::Machine this_machine(const MachineOptions& options, int batch) {
  return {cpu_name(), to_string(options.resolved_isa()), options.resolved_threads(), batch};
}

program::Program with_weight_bits(const TimedNetwork& network, int weight_bits, quant::Policy policy) {
  if (const auto* graph = std::get_if<graph::Graph>(&network)) return lowered(*graph, weight_bits, policy);
  return requantized(std::get<program::Program>(network), weight_bits, policy);
}

program::Program with_activation_bits(program::Program network, int bits) {
  const TypeGroups groups(network);
  std::vector<bool> changes(network.tensors.size(), false);
  for (const program::Op& op : network.ops) {
    if (code_weights(op)) changes[groups.group(op.inputs[0])] = true;
  }
  for (const program::Op& op : network.ops) {
    const bool reads_input = program::is_arithmetic(op.kind) && op.inputs[0] == network.input;
    for (program::TensorId output : op.outputs) {
      if (reads_input) changes[groups.group(output)] = false;
    }
  }
  for (size_t i = 0; i < network.tensors.size(); ++i) {
    auto& code = network.tensors[i].code;
    if (code && changes[groups.group(static_cast<program::TensorId>(i))]) code = type_with_bits(*code, bits);
  }
  for (program::Op& op : network.ops) {
    auto* lookup = std::get_if<program::Lookup>(&op.kind);
    if (lookup)
      lookup->table.resize(
          static_cast<size_t>(network.tensors[static_cast<size_t>(op.inputs[0])].code->levels()));
  }
  return network;
}

std::vector<NetworkTimes> measure_networks(size_t count, const std::function<program::Program(size_t)>& make,
                                           const MachineOptions& machine, int batch, const Effort& effort,
                                           bool quiet) {
  const runtime::Options options = machine.runtime_options(batch);
  std::vector<NetworkTimes> times;
  Progress progress("profile", count * static_cast<size_t>(effort.rounds), "measurements", quiet);
  uint64_t done = 0;
  for (int round = 0; round < effort.rounds; ++round) {
    for (size_t i = 0; i < count; ++i) {
      NetworkTimes measured = measure_round(make(i), options, effort);
      if (round == 0) {
        times.push_back(std::move(measured));
      } else {
        merge(times[i], measured);
      }
      progress.update(++done);
    }
  }
  progress.finish();
  return times;
}

plan::LatencyTable profile_networks(const std::vector<TimedNetwork>& networks, const std::vector<int>& bits,
                                    quant::Policy policy, const MachineOptions& machine, int batch,
                                    const Effort& effort, bool quiet) {
  const size_t pairs = bits.size() * bits.size();
  program::Program weighted;  // the activation bits of one network and weight width follow each other
  const auto make = [&](size_t i) {
    if (i % bits.size() == 0)
      weighted = with_weight_bits(networks[i / pairs], bits[i % pairs / bits.size()], policy);
    return with_activation_bits(weighted, bits[i % bits.size()]);
  };
  TableMaker maker;
  std::vector<double> fixed_us;
  for (const NetworkTimes& times :
       measure_networks(networks.size() * pairs, make, machine, batch, effort, quiet)) {
    maker.add(times);
    fixed_us.push_back(times.fixed_us);
  }
  plan::LatencyTable table = maker.finish();
  table.machine = this_machine(machine, batch);
  table.policy = policy;
  if (networks.size() == 1) table.fixed_us = quantile(fixed_us, 0.5);
  return table;
}

}  // namespace bitstrata::cli
