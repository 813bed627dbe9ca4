#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace bitstrata::train {

/// Names of the built-in float networks: "lenet", "resnet20".
std::vector<std::string> architecture_names();

/// A built-in network with He-initialised weights (He et al. 2015) drawn from `seed`, for inputs [channels, height, width] and `classes`
/// outputs. kInvalidArgument for an unknown name or an extent the network cannot take (both need at least 8x8).
/// - lenet: two 3x3 convolutions with batch norm and ReLU, the first followed by 2x2 max pooling, global average pooling over a
///   4x4 grid at most, a hidden linear layer of 64 and the classifier.
/// - resnet20: CIFAR ResNet-20 with option-A shortcuts (He et al. 2016).
graph::Graph make_architecture(std::string_view name, int channels, int height, int width, int classes, uint64_t seed);

}  // namespace bitstrata::train
