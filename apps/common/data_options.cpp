#include "common/data_options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "common/output.h"
#include "core/error.h"

namespace bitstrata::cli {
namespace {

bool has_numbered_classes(const data::Dataset& dataset) {
  if (!dataset.name().starts_with("idx:") && !dataset.name().starts_with("npy:")) return false;
  const auto& names = dataset.class_names();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] != std::to_string(i)) return false;
  }
  return true;
}

}  // namespace

void add_normalization_options(CLI::App& app, DataOptions& options) {
  constexpr int kMostChannels = 16;
  app.add_option("--mean", options.mean,
                 "Mean of each channel, subtracted from pixel / 255 (default: what the model file says)")
      ->delimiter(',')
      ->expected(1, kMostChannels);
  app.add_option("--std", options.std,
                 "Deviation of each channel, divided by after the mean (default: what the model file says)")
      ->delimiter(',')
      ->expected(1, kMostChannels);
}

void add_data_options(CLI::App& app, DataOptions& options) {
  app.add_option("--data", options.data, "digits, cifar10:DIR, folder:DIR, idx:DIR or npy:DIR")
      ->type_name("DATA")
      ->required();
  add_normalization_options(app, options);
  app.add_option("--cache", options.cache,
                 "Folder for decoded images (default: bitstrata in $XDG_CACHE_HOME or ~/.cache)")
      ->type_name("DIR");
}

std::string default_cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::string(cache) + "/bitstrata";
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? std::string(home) + "/.cache/bitstrata" : "";
}

data::Normalization resolve_normalization(const DataOptions& options, const std::vector<float>& file_mean,
                                          const std::vector<float>& file_std, int channels) {
  data::Normalization normalization = data::default_normalization(channels);
  if (!file_mean.empty()) normalization.mean = file_mean;
  if (!file_std.empty()) normalization.std = file_std;
  if (!options.mean.empty()) normalization.mean = options.mean;
  if (!options.std.empty()) normalization.std = options.std;
  data::normalization_table(normalization, channels);
  return normalization;
}

data::Dataset load_dataset(const DataOptions& options, const data::ImageShape& shape, bool train, bool test,
                           int threads, bool quiet) {
  data::LoadOptions load;
  load.train = train;
  load.test = test;
  load.threads = threads;
  load.cache_dir = options.cache.empty() ? default_cache_folder() : options.cache;
  if (options.data.starts_with("folder:")) load.shape = shape;
  data::Dataset dataset = data::load(options.data, load);
  if (!quiet) {
    for (const std::string& warning : dataset.warnings())
      write_stderr_line("bitstrata: warning: " + printable(warning, 1000));
  }
  const bool any_shape = shape == data::ImageShape{};
  if (!any_shape && dataset.shape() != shape) {
    fail(ErrorCode::kBadInput,
         "{} has images of {}, but the network takes {}: use the data it was trained on",
         printable(dataset.name()), data::to_string(dataset.shape()), data::to_string(shape));
  }
  return dataset;
}

void check_classes(const data::Dataset& dataset, const std::vector<std::string>& network_names,
                   int64_t network_outputs) {
  const std::string where = printable(dataset.name());
  const int64_t classes = dataset.num_classes();
  const bool numbered = has_numbered_classes(dataset);
  if (classes > network_outputs || (classes < network_outputs && !numbered)) {
    fail(ErrorCode::kBadInput,
         "{} has {} classes, but the network has {} outputs: use the data it was trained on", where, classes,
         network_outputs);
  }
  if (numbered || network_names.empty()) return;
  for (size_t i = 0; i < network_names.size() && i < dataset.class_names().size(); ++i) {
    if (dataset.class_names()[i] == network_names[i]) continue;
    fail(ErrorCode::kBadInput,
         "class {} is '{}' in {}, but '{}' in the network: use the data it was trained on, with the same "
         "class names",
         i, printable(dataset.class_names()[i]), where, printable(network_names[i]));
  }
}

data::ImageShape image_shape(const program::Dims& dims) {
  constexpr int64_t kMost = data::kMaxImageSide;
  if (dims.size() != 3 || dims[0] > kMost || dims[1] > kMost || dims[2] > kMost) {
    fail(ErrorCode::kUnsupported,
         "the network's input is [{}], but only images [channels, height, width] can be fed to it",
         fmt::join(dims, ", "));
  }
  return {static_cast<int>(dims[0]), static_cast<int>(dims[1]), static_cast<int>(dims[2])};
}

}  // namespace bitstrata::cli
