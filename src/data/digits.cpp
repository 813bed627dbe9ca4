#include <algorithm>
#include <string_view>

#include "data/resize.h"
#include "data/sources.h"

namespace bitstrata::data {
namespace {

constexpr std::string_view kDigits[] = {
#include "data/digits_data.inc"
};
constexpr ImageShape kDigitShape{1, 8, 8};
constexpr uint64_t kSplitSeed = 0;
constexpr double kTestFraction = 0.2;

SplitData take(const std::vector<int64_t>& indices, const ImageShape& shape, int threads) {
  SplitData split;
  for (const int64_t index : indices) {
    const std::string_view line = kDigits[index];
    split.labels.push_back(line[0] - '0');
    for (const char c : line.substr(1))
      split.pixels.push_back(static_cast<uint8_t>(std::min(255, (c - 'A') * 16)));
  }
  split.pixels = fit_images(std::move(split.pixels), kDigitShape, shape, threads);
  return split;
}

}  // namespace

DatasetContent load_digits(const LoadOptions& options) {
  std::vector<int32_t> labels;
  for (const std::string_view line : kDigits) labels.push_back(line[0] - '0');
  const Holdout split = holdout(labels, kSplitSeed, kTestFraction);

  DatasetContent content;
  content.shape = resolve_shape(options.shape, kDigitShape, "digits");
  content.class_names = numbered_classes(10);
  if (options.train) content.train = take(split.train, content.shape, options.threads);
  if (options.test) content.test = take(split.val, content.shape, options.threads);
  return content;
}

}  // namespace bitstrata::data
