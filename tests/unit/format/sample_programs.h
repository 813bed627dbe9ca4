#pragma once

#include "program/program.h"

namespace bitstrata::format {

/// One linear layer of 3-bit weights behind a quantizer: a file of a few hundred bytes. Contents of
/// tests/golden/v1/tiny.bst: never change it.
program::Program tiny_program();

/// Every op kind, step, function, weight width, float weights, constants, names that are not ASCII, class
/// names and metadata. Contents of tests/golden/v1/every-kind.bst: never change it.
program::Program every_kind_program();

/// The shape of a compiled ResNet-20 for CIFAR-10 at 4 bits with option-A shortcuts: 22 quantized layers (the
/// two shortcut quantizers included), 268,336 random weights, random multipliers, names as a PyTorch export
/// has them.
program::Program resnet20_like_program();

}  // namespace bitstrata::format
