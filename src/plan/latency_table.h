#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "plan/layer_shape.h"

namespace bitstrata::plan {

/// What a latency holds for: another CPU, instruction set, number of threads or batch has other ones.
struct Machine {
  std::string cpu;  ///< as the CPU names itself
  std::string isa;  ///< cap on the instruction set
  int threads = 1;
  int batch = 1;
  bool operator==(const Machine&) const = default;
};

/// Measured latencies of layers by shape and bits: what `bitstrata profile` writes (docs/latency.md). A
/// value.
struct LatencyTable {
  struct Entry {
    int weight_bits = 8, activation_bits = 8;  ///< in 1..8, each pair once per shape
    std::string kernel;                        ///< that the runtime chose
    double us = 0;                             ///< microseconds per batch
    bool operator==(const Entry&) const = default;
  };
  struct Shape {
    LayerShape shape;
    std::vector<std::string> layers;  ///< names of those that were measured
    std::vector<Entry> entries;
    bool operator==(const Shape&) const = default;
  };

  Machine machine;
  quant::Policy policy =
      quant::Policy::kLsq;         ///< of the weights: some kernels depend on their grid and range
  std::string network;             ///< the file that was measured; empty: the usual shapes
  std::vector<Shape> shapes;       ///< each shape once
  std::optional<double> fixed_us;  ///< everything in `network` that is no layer; empty without a network
  bool operator==(const LatencyTable&) const = default;
};

/// table.json, one line per entry. Microseconds are rounded to three decimals.
std::string to_json(const LatencyTable& table);

/// Inverse of to_json. kCorruptFile for text that is not JSON, kUnsupported for another version, kBadInput,
/// naming `name` and key, for anything else to_json would not write.
LatencyTable latency_table_from_json(const std::string& text, const std::string& name);
LatencyTable read_latency_table(const std::filesystem::path& path);

/// kBadInput, saying what differs, unless the table was measured on `here`. `name`: the table, for the
/// message.
void check_machine(const LatencyTable& table, const Machine& here, const std::string& name);

/// Microseconds of a layer. A shape that differs from one of the table in `stores` alone takes that one's.
/// kBadInput, naming `layer` and the command that measures it, when shape or pair is missing.
double layer_us(const LatencyTable& table, const std::string& layer, const LayerShape& shape, int weight_bits,
                int activation_bits);

struct LayerLatency {
  std::string layer;
  int weight_bits = 8, activation_bits = 8;
  double ms = 0;
};

/// Latencies of all layers of a graph at all pairs of the given bits; layers that read the graph input have 8
/// activation bits only. Errors as layer_us.
std::vector<LayerLatency> layer_latencies(const graph::Graph& graph, const LatencyTable& table,
                                          std::span<const int> weight_bits,
                                          std::span<const int> activation_bits);

}  // namespace bitstrata::plan
