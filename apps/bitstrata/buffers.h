#pragma once

#include <span>
#include <vector>

#include "core/random.h"
#include "program/program.h"

namespace bitstrata::cli {

/// Buffers for one batch of a network: inputs drawn from [-1, 1), one output buffer for each network output.
struct Buffers {
  std::vector<float> input;
  std::vector<std::vector<float>> outputs;
  std::vector<std::span<float>> spans;

  Buffers(const program::Program& program, int batch) {
    const auto elems = [&](program::TensorId id) {
      return static_cast<size_t>(program::elements(program.tensors[static_cast<size_t>(id)].dims)) *
             static_cast<size_t>(batch);
    };
    Random random(0, 0);
    input.resize(elems(program.input));
    for (float& value : input) value = static_cast<float>(2 * random.uniform() - 1);
    for (program::TensorId id : program.outputs) outputs.emplace_back(elems(id));
    spans.assign(outputs.begin(), outputs.end());
  }
};

}  // namespace bitstrata::cli
