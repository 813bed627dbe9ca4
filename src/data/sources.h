#pragma once

// Inside the module: one loader for each kind of data source, and what they share.

#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace bitstrata::data {

// Each fills everything but the name; `load` describes the formats.
DatasetContent load_digits(const LoadOptions& options);
DatasetContent load_cifar10(const std::filesystem::path& dir, const LoadOptions& options);
DatasetContent load_folder(const std::filesystem::path& dir, const LoadOptions& options);
DatasetContent load_idx(const std::filesystem::path& dir, const LoadOptions& options);
DatasetContent load_npy(const std::filesystem::path& dir, const LoadOptions& options);

/// fit_image of all images in `pixels`, [n, from]. Returns [n, to].
std::vector<uint8_t> fit_images(std::vector<uint8_t> pixels, const ImageShape& from, const ImageShape& to,
                                int threads);

/// "0", "1", ... for `count` classes.
std::vector<std::string> numbered_classes(int count);

/// `values` as labels in [0, num_classes). kBadInput, naming `where` and the first sample that is out of
/// range.
std::vector<int32_t> checked_labels(const std::vector<int64_t>& values, int num_classes,
                                    const std::string& where);

/// 1 + the largest of `labels`. kBadInput, naming `where`, when there are none, one is negative, or there are
/// more than 65,536 classes.
int count_classes(const std::vector<int64_t>& labels, const std::string& where);

/// One class name a line; blank lines at the end are ignored. kBadInput when there is none, one is blank or
/// appears twice.
std::vector<std::string> read_class_names(const std::filesystem::path& path);

/// kBadInput naming the first class in which the lists differ.
void check_same_classes(const std::vector<std::string>& train, const std::vector<std::string>& test,
                        const std::string& where);

}  // namespace bitstrata::data
