#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/image.h"
#include "data/normalization.h"

namespace bitstrata::data {

/// Network inputs read from one file. values: float32 [count, shape].
struct Input {
  int64_t count = 0;
  ImageShape shape;
  std::vector<float> values;
};

/// Reads a file for inference, told apart by its content: a JPEG or PNG gives one input, brought to `shape`
/// (fit_image; 0 = as the image has it) and normalised; a .npy of float32 [C, H, W] or [N, C, H, W] is taken
/// as already normalised, must have `shape` (0 = any), and `normalization` is not used. Errors name the file:
/// kIo, kCorruptFile for damaged files, kBadInput for another kind of file, type or shape, kInvalidArgument
/// for a normalisation that does not fit.
Input load_input(const std::filesystem::path& path, const ImageShape& shape,
                 const Normalization& normalization);

}  // namespace bitstrata::data
