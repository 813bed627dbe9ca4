#pragma once

// Everything of LibTorch that src/train uses, precompiled once. Only src/train and its users include it.
#include <torch/torch.h>
