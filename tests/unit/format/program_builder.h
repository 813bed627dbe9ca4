#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "program/program.h"
#include "quant/packing.h"

namespace bitstrata::format {

/// Appends tensors and ops to a program, one call each.
class ProgramBuilder {
 public:
  program::Program program;

  program::TensorId tensor(std::string name, program::Dims dims, std::optional<quant::CodeType> code = {}) {
    program.tensors.push_back({std::move(name), std::move(dims), code});
    return static_cast<program::TensorId>(program.tensors.size() - 1);
  }

  program::TensorId constant(std::string name, program::Dims dims, std::vector<float> values) {
    const auto id = tensor(std::move(name), std::move(dims));
    program.constants.push_back({id, std::move(values)});
    return id;
  }

  /// Adds an op with one output tensor of its name and returns that tensor.
  program::TensorId op(const std::string& name, program::Kind kind, std::vector<program::TensorId> inputs,
                       program::Dims dims, std::optional<quant::CodeType> code = {},
                       std::vector<program::Step> steps = {}) {
    const auto id = tensor(name + "_output", std::move(dims), code);
    program.ops.push_back({name, std::move(kind), std::move(inputs), std::move(steps), {id}});
    return id;
  }
};

inline program::Step step(program::StepKind kind, float a = 0, float b = 0, std::vector<float> mul = {},
                          std::vector<float> add = {},
                          program::Function function = program::Function::kNone) {
  return {kind, -1, a, b, std::move(mul), std::move(add), function};
}

/// A step that combines the running value with a tensor.
inline program::Step binary_step(program::StepKind kind, program::TensorId operand) {
  return {kind, operand, 0, 0, {}, {}, program::Function::kNone};
}

/// `count` codes of `bits` bits that vary with `seed`, packed.
inline program::CodeWeights code_weights(int bits, quant::IntegerGrid grid, size_t count, unsigned seed) {
  std::vector<uint8_t> codes(count);
  for (size_t i = 0; i < count; ++i) codes[i] = static_cast<uint8_t>((i * 37 + i / 5 + seed) % (1u << bits));
  return {bits, grid, quant::pack_codes(codes, bits)};
}

/// `count` different float32 numbers around `base`.
inline std::vector<float> floats(size_t count, float base, float step) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = base + static_cast<float>(i) * step;
  return values;
}

}  // namespace bitstrata::format
