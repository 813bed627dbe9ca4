#include "data/normalization.h"

#include <cmath>

#include "core/error.h"

namespace bitstrata::data {

Normalization default_normalization(int channels) {
  if (channels == 3) return {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
  const auto count = static_cast<size_t>(channels);
  return {std::vector<float>(count, 0.5f), std::vector<float>(count, 0.5f)};
}

std::vector<float> normalization_table(const Normalization& normalization, int channels) {
  const auto count = static_cast<size_t>(channels);
  if (normalization.mean.size() != count || normalization.std.size() != count) {
    fail(ErrorCode::kInvalidArgument,
         "normalisation does not fit the data: found {} means and {} deviations, expected {} of each, one "
         "for each "
         "channel; check --mean and --std",
         normalization.mean.size(), normalization.std.size(), channels);
  }
  std::vector<float> table(count * 256);
  for (size_t c = 0; c < count; ++c) {
    const float mean = normalization.mean[c], std = normalization.std[c];
    if (!std::isfinite(mean) || !std::isfinite(std) || std <= 0.0f) {
      fail(ErrorCode::kInvalidArgument,
           "normalisation of channel {} is unusable: found mean {} and std {}, expected finite numbers and "
           "std > 0",
           c, mean, std);
    }
    for (size_t pixel = 0; pixel < 256; ++pixel) {
      table[c * 256 + pixel] = (static_cast<float>(pixel) / 255.0f - mean) / std;
    }
  }
  return table;
}

}  // namespace bitstrata::data
