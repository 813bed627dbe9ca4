#pragma once

#include <functional>

#include "program/program.h"
#include "train/torch.h"

namespace bitstrata::evaluators {

/// The deployed network as a function from images [n, C, H, W], n <= max_batch, normalised float32, to logits
/// [n, classes]: the runtime on the CPU, train::ExactEvaluator on other devices. Both compute the very same
/// codes (docs/arithmetic.md; `bitstrata verify` compares them); the runtime is several times faster. Not
/// thread-safe.
std::function<torch::Tensor(const torch::Tensor&)> deployed_logits(program::Program program,
                                                                   torch::Device device, int max_batch);

}  // namespace bitstrata::evaluators
