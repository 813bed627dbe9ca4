#pragma once

#include <span>
#include <vector>

#include "program/program.h"

namespace bitstrata::program {

/// Every tensor of one image after a reference run, in logical row-major order: codes[id] for code tensors,
/// floats[id] for the others.
struct ReferenceTensors {
  std::vector<std::vector<uint8_t>> codes;
  std::vector<std::vector<float>> floats;
};

/// The specification of docs/arithmetic.md as plain loops: runs one image. input: dims of the program input,
/// row-major float32. Slow on purpose; every kernel, the runtime and the training side's evaluation are
/// compared with it. The program must be valid.
ReferenceTensors run_reference(const Program& program, std::span<const float> input);

}  // namespace bitstrata::program
