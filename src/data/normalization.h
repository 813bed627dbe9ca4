#pragma once

#include <cstdint>
#include <vector>

namespace bitstrata::data {

/// How pixels become network inputs: x = (pixel / 255 - mean) / std, one mean and std for each channel.
struct Normalization {
  std::vector<float> mean;
  std::vector<float> std;

  bool operator==(const Normalization&) const = default;
};

/// The usual constants: for 3 channels ImageNet's (0.485 0.456 0.406 and 0.229 0.224 0.225), otherwise 0.5
/// and 0.5 each.
Normalization default_normalization(int channels);

/// All 256 values of each channel, [channels, 256]: the one place where a pixel is normalised, in float32:
/// divide by 255, subtract the mean, divide by std, each rounded. kInvalidArgument unless there are
/// `channels` finite means and as many finite std > 0.
std::vector<float> normalization_table(const Normalization& normalization, int channels);

}  // namespace bitstrata::data
