#pragma once

#include "compile/lower.h"
#include "job.h"
#include "plan/plan.h"
#include "program/program.h"

/// The stages of compress. Each leaves its result in the job's folder and, on --resume, takes what is already there.
namespace bitstrata::cli {

/// Accuracy of the float network on the test split.
double float_accuracy_stage(Job& job, Workbench& bench);

/// plan.json: bits for every layer that meet the targets. kJobFailed, with the nearest plan written, when no plan does.
plan::Plan search_stage(Job& job, const Workbench& bench);

/// A network with its quantizers, before or after training.
struct QuantizedNetwork {
  graph::Graph graph;
  compile::Quantizers quantizers;
};

/// Batch norms put back and quantizers calibrated on training data.
QuantizedNetwork start_stage(Job& job, const Workbench& bench, const plan::Plan& plan);

/// Quantization-aware training at the plan's bits; checkpoints by time and by epoch. kInterrupted after saving when a signal came.
QuantizedNetwork finetune_stage(Job& job, const Workbench& bench, const plan::Plan& plan, const QuantizedNetwork& start);

/// model.bst.
program::Program compile_stage(Job& job, const plan::Plan& plan, const QuantizedNetwork& network);

/// Accuracy of the deployed network on the test split, in the training side's exact arithmetic.
double exact_test_accuracy(const Workbench& bench, program::Program program, bool quiet);

/// The trained network of a finished finetune stage, read back from the job's folder.
QuantizedNetwork read_trained(const JobFolder& folder);

}  // namespace bitstrata::cli
