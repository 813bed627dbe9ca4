#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "common/settings.h"
#include "graph/graph.h"
#include "plan/latency_table.h"
#include "program/program.h"

namespace bitstrata::cli {

/// How long `bitstrata profile` measures. In every round each network is prepared anew, so that where its
/// memory happens to lie evens out.
struct Effort {
  int rounds = 5;
  double seconds = 0.02;  ///< of measured runs per network and round
  size_t least_runs = 5;
};

/// What latencies measured with these settings hold for.
plan::Machine this_machine(const MachineOptions& options, int batch);

/// A network whose layers can be given any bits, for timing only: float, or packed.
using TimedNetwork = std::variant<graph::Graph, program::Program>;

/// The network at `weight_bits` and 8-bit activations. A graph is lowered, its weights quantized as
/// fine-tuning would start, with activation quantizers made without data, one of their own for every layer
/// and stream. In a program the integer weights are quantized anew, but for layers that have these bits
/// already.
program::Program with_weight_bits(const TimedNetwork& network, int weight_bits, quant::Policy policy);

/// The input of every integer layer at `bits`; inputs that come straight from the network's input stay as
/// they are.
program::Program with_activation_bits(program::Program network, int bits);

/// Times in the same sense for the table and for a check of it: per op the median of the runs in a round,
/// then the least of the rounds, which other programs on this machine disturb least.
struct NetworkTimes {
  struct Layer {
    std::string name, kernel;
    plan::LayerShape shape;
    int weight_bits = 8, activation_bits = 8;
    double us = 0;
  };
  std::vector<Layer> layers;  ///< Conv and Linear with integer weights
  double fixed_us = 0;        ///< all else: other ops, input and output
  double total_us = 0;        ///< of the whole network, run without measuring its parts
};

/// Measures `count` networks in turns, round by round; make(i), called for rising i in each round, gives
/// network i, the same each time.
std::vector<NetworkTimes> measure_networks(size_t count, const std::function<program::Program(size_t)>& make,
                                           const MachineOptions& machine, int batch, const Effort& effort,
                                           bool quiet);

/// The table of one or more networks at all pairs of `bits`; layers of one shape share the median of their
/// times.
plan::LatencyTable profile_networks(const std::vector<TimedNetwork>& networks, const std::vector<int>& bits,
                                    quant::Policy policy, const MachineOptions& machine, int batch,
                                    const Effort& effort, bool quiet);

}  // namespace bitstrata::cli
