#include "data/dataset.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/random.h"
#include "data/order.h"
#include "data/sources.h"

namespace bitstrata::data {
namespace {

void check_split(const SplitData& split, const DatasetContent& content, const char* split_name) {
  const size_t expected_elems = split.labels.size() * content.shape.num_elems();
  const size_t found_elems = split.pixels.size() + split.values.size();
  if (found_elems != expected_elems || (!split.pixels.empty() && !split.values.empty())) {
    fail(ErrorCode::kBadInput, "data set {}: the {} split has {} elements, expected {} for {} labels of {}",
         printable(content.name), split_name, found_elems, expected_elems, split.labels.size(),
         to_string(content.shape));
  }
  const auto num_classes = static_cast<int32_t>(content.class_names.size());
  for (size_t i = 0; i < split.labels.size(); ++i) {
    if (split.labels[i] < 0 || split.labels[i] >= num_classes) {
      fail(ErrorCode::kBadInput, "data set {}: {} sample {} has label {}, expected 0 to {}",
           printable(content.name), split_name, i, split.labels[i], num_classes - 1);
    }
  }
}

}  // namespace

const char* to_string(Split split) noexcept {
  return split == Split::kTrain ? "train" : "test";
}

Dataset::Dataset(DatasetContent content) : content_(std::move(content)) {
  const auto& [channels, height, width] = content_.shape;
  if (channels <= 0 || height <= 0 || width <= 0) {
    fail(ErrorCode::kBadInput, "data set {}: extent {} is empty", printable(content_.name),
         to_string(content_.shape));
  }
  check_split(content_.train, content_, "train");
  check_split(content_.test, content_, "test");
  if (content_.train.labels.empty() && content_.test.labels.empty()) {
    fail(ErrorCode::kBadInput, "data set {} has no samples", printable(content_.name));
  }
  const bool has_pixels = !content_.train.pixels.empty() || !content_.test.pixels.empty();
  is_normalized_ = !content_.train.values.empty() || !content_.test.values.empty();
  if (has_pixels && is_normalized_) {
    fail(ErrorCode::kBadInput,
         "data set {}: one split has pixels, the other normalised values; expected the same kind",
         printable(content_.name));
  }
}

Dataset load(std::string_view spec, const LoadOptions& options) {
  struct Source {
    std::string_view prefix;
    DatasetContent (*load)(const std::filesystem::path&, const LoadOptions&);
  };
  static constexpr Source kSources[] = {
      {"cifar10:", load_cifar10}, {"folder:", load_folder}, {"idx:", load_idx}, {"npy:", load_npy}};
  const auto named = [&](DatasetContent content) {
    content.name = spec;
    return Dataset(std::move(content));
  };
  if (!options.train && !options.test)
    fail(ErrorCode::kInvalidArgument, "no split of '{}' asked for", printable(std::string(spec)));
  if (spec == "digits") return named(load_digits(options));
  for (const auto& [prefix, load_source] : kSources) {
    if (!spec.starts_with(prefix) || spec.size() == prefix.size()) continue;
    try {
      return named(load_source(spec.substr(prefix.size()), options));
    } catch (const std::filesystem::filesystem_error& error) {
      fail(ErrorCode::kIo, "cannot read {}: {}", printable(error.path1().string()), error.code().message());
    }
  }
  fail(ErrorCode::kInvalidArgument,
       "unknown data '{}': expected digits, cifar10:DIR, folder:DIR, idx:DIR or npy:DIR",
       printable(std::string(spec)));
}

Holdout holdout(std::span<const int32_t> labels, uint64_t seed, double fraction) {
  if (!(fraction >= 0.0 && fraction < 1.0)) {
    fail(ErrorCode::kInvalidArgument, "cannot hold out a fraction of {}: expected at least 0 and less than 1",
         fraction);
  }
  std::map<int32_t, std::vector<int64_t>> by_class;
  for (size_t i = 0; i < labels.size(); ++i) by_class[labels[i]].push_back(static_cast<int64_t>(i));

  Holdout result;
  for (auto& [label, indices] : by_class) {
    shuffle(indices, Random(seed, stream(Purpose::kHoldout, static_cast<uint64_t>(label))));
    auto held = std::llround(fraction * static_cast<double>(indices.size()));
    const auto count = static_cast<long long>(indices.size());
    if (fraction > 0.0 && count >= 2) held = std::clamp(held, 1LL, count - 1);
    result.val.insert(result.val.end(), indices.begin(), indices.begin() + held);
    result.train.insert(result.train.end(), indices.begin() + held, indices.end());
  }
  std::sort(result.train.begin(), result.train.end());
  std::sort(result.val.begin(), result.val.end());
  return result;
}

Holdout holdout(const Dataset& dataset, uint64_t seed, double fraction) {
  return holdout(dataset.labels(Split::kTrain), seed, fraction);
}

}  // namespace bitstrata::data
