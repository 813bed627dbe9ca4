#pragma once

#include <memory>
#include <optional>
#include <string>

#include "compile/lower.h"
#include "job.h"
#include "plan/plan.h"
#include "program/program.h"
#include "search/space.h"
#include "train/network.h"

/// The stages of compress. Each leaves its result in the job's folder and, on --resume, takes what is already
/// there.
namespace bitstrata::cli {

/// Accuracy of the float network on the test split.
double float_accuracy_stage(Job& job, Workbench& bench);

/// The float network with batch norms put back: what search and fine-tuning work on.
graph::Graph network_stage(Job& job, const Workbench& bench);

/// Latencies of the network's layers on this machine when a target needs them: --latency, or measured now by
/// `bitstrata profile`.
std::optional<search::LatencyTable> latency_stage(Job& job, const Workbench& bench);

/// plan.json: bits for every layer that meet the targets. While it runs, plan.json and pareto.json always
/// hold the best found so far, and the search goes on after --resume. kJobFailed, with the nearest plan
/// written, when no plan meets them.
plan::Plan search_stage(Job& job, const Workbench& bench, const graph::Graph& graph);

/// A network with its quantizers, before or after training.
struct QuantizedNetwork {
  graph::Graph graph;
  compile::Quantizers quantizers;
};

/// Where fine-tuning starts: the network as the search has trained it, or the float one with quantizers
/// calibrated on training data.
QuantizedNetwork start_stage(Job& job, const Workbench& bench, const graph::Graph& graph,
                             const plan::Plan& plan);

/// Quantization-aware training at the plan's bits; checkpoints by time and by epoch. kInterrupted after
/// saving when a signal came.
QuantizedNetwork finetune_stage(Job& job, const Workbench& bench, const plan::Plan& plan,
                                const QuantizedNetwork& start);

/// model.bst.
program::Program compile_stage(Job& job, const plan::Plan& plan, const QuantizedNetwork& network);

/// Accuracy of the deployed network on the test split, in the training side's exact arithmetic.
double exact_test_accuracy(const Workbench& bench, program::Program program, bool quiet);

/// The imported network in float, for evaluation and as teacher.
std::unique_ptr<train::Network> float_network(const Workbench& bench);

/// Whether weights have a scale per output channel: as asked, or the policy's default.
bool per_channel(const JobOptions& options);

/// "3.17 weight bits, ... bytes (10.1x), ... GBitOPs".
std::string describe(const plan::Figures& figures);

/// The trained network of a finished finetune stage, read back from the job's folder.
QuantizedNetwork read_trained(const JobFolder& folder);

}  // namespace bitstrata::cli
