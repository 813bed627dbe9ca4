#pragma once

#include <vector>

#include "graph/graph.h"

namespace bitstrata::cli {

/// The networks whose shapes `bitstrata profile` measures without one of the user's: ResNet-20 for 32x32
/// images with option-A shortcuts and ResNet-18 for 224x224 images (He et al. 2016), with random weights and
/// batch norms folded.
std::vector<graph::Graph> usual_networks();

}  // namespace bitstrata::cli
