#pragma once

#include <filesystem>

#include "program/program.h"

namespace bitstrata::testing {

/// A small quantized classifier of the built-in digits with fixed random weights: 2-bit convolution, 4-bit
/// activations, 3-bit linear layer.
program::Program digits_network();

/// Share of the digits' test split that the scalar reference classifies right.
double reference_accuracy(const program::Program& network);

/// The folder of data and networks that are not part of the repository; empty when absent.
std::filesystem::path shared_folder();

}  // namespace bitstrata::testing
