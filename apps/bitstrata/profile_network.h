#pragma once

#include <functional>
#include <string>
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

/// A float network lowered at 8 x 8 bits with quantizers made without data, one of their own for every layer
/// and stream: good for timing.
program::Program lower_for_timing(const graph::Graph& graph);

/// A network with every integer layer at `weight_bits` (random codes) and its input at `activation_bits`;
/// inputs that come straight from the network's input, and layers that are float, stay as they are. Good for
/// timing only.
program::Program with_bits(const program::Program& base, int weight_bits, int activation_bits);

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

/// Measures `count` networks in turns, round by round; make(i) gives network i, the same each time.
std::vector<NetworkTimes> measure_networks(size_t count, const std::function<program::Program(size_t)>& make,
                                           const MachineOptions& machine, int batch, const Effort& effort,
                                           bool quiet);

/// The table of one or more networks at all pairs of `bits`; layers of one shape share the median of their
/// times.
plan::LatencyTable profile_networks(const std::vector<program::Program>& networks,
                                    const std::vector<int>& bits, const MachineOptions& machine, int batch,
                                    const Effort& effort, bool quiet);

}  // namespace bitstrata::cli
