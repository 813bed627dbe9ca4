#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "program/program.h"

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// Share of the training split that is held out for search and `--split val`.
inline constexpr double kHoldoutFraction = 0.1;
/// Seed of a job when --seed is not given.
inline constexpr uint64_t kDefaultSeed = 1;

/// Which data, and how its pixels become network inputs.
struct DataOptions {
  std::string data;              ///< DATA, see data::load
  std::vector<float> mean, std;  ///< empty: not given
  std::string cache;             ///< folder for decoded images; empty: default_cache_folder()
};

/// Adds --data (required), --mean, --std and --cache.
void add_data_options(CLI::App& app, DataOptions& options);
/// Adds --mean and --std.
void add_normalization_options(CLI::App& app, DataOptions& options);

/// $XDG_CACHE_HOME/bitstrata, else ~/.cache/bitstrata, else nothing (no cache).
std::string default_cache_folder();

/// The normalisation to use: --mean and --std where given, else what the model file says, else the default.
/// kInvalidArgument for values that do not fit `channels`.
data::Normalization resolve_normalization(const DataOptions& options, const std::vector<float>& file_mean,
                                          const std::vector<float>& file_std, int channels);

/// Loads the data for a network with inputs of `shape` (all 0: a network is yet to be fitted to the data).
/// Images of a folder are brought to that extent; all other data must have it (kBadInput). Warnings go to
/// stderr unless quiet.
data::Dataset load_dataset(const DataOptions& options, const data::ImageShape& shape, bool train, bool test,
                           int threads, bool quiet);

/// Checks that the labels mean the same to the network as to the data: as many classes as outputs, and the
/// same names in the same order where both have names. Data whose classes are merely numbered (idx and npy
/// without classes.txt) may have fewer. kBadInput otherwise.
void check_classes(const data::Dataset& dataset, const std::vector<std::string>& network_names,
                   int64_t network_outputs);

/// The extent of a network's input. kUnsupported unless it is [C, H, W].
data::ImageShape image_shape(const program::Dims& dims);

}  // namespace bitstrata::cli
