#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace bitstrata::train {

/// Names of the built-in float networks, from small to large.
std::vector<std::string> architecture_names();

/// A built-in network with He-initialised weights (He et al. 2015) drawn from `seed`, for inputs [channels, height, width] and `classes`
/// outputs. kInvalidArgument for an unknown name or an extent the network cannot take (all need at least 8x8).
/// All convolutions have a batch norm behind them.
/// - lenet: two 3x3 convolutions with ReLU, 2x2 max pooling behind the first and then down to a 4x4 grid at most, a hidden
///   linear layer of 64 and the classifier.
/// - digits-cnn: three 3x3 convolutions of 16, 32 (stride 2) and 32 channels, the mean over the image, the classifier.
/// - resnet20, resnet32, resnet56: CIFAR ResNets with option-A shortcuts (He et al. 2016), 0.27, 0.46 and 0.85 M weights.
/// - vgg-small: the VGG of low-bit papers on CIFAR (as LQ-Nets, Zhang et al. 2018): two 3x3 convolutions each of 128, 256
///   and 512 channels, 2x2 max pooling behind each pair, one linear layer; 4.6 M weights.
/// - mobilenet-v2: MobileNetV2 (Sandler et al. 2018) for 32x32 images: stem and second stage with stride 1; 2.2 M weights.
graph::Graph make_architecture(std::string_view name, int channels, int height, int width, int classes, uint64_t seed);

}  // namespace bitstrata::train
