#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"
#include "data/normalization.h"

namespace bitstrata::data {

enum class Split { kTrain, kTest };

/// "train", "test".
const char* to_string(Split split) noexcept;

/// Random changes to training images: `pad` pixels of the value that normalises to 0 on each side, a random
/// crop of the original extent, and a mirror image half of the time when `flip`.
struct Augmentation {
  int pad = 0;
  bool flip = false;
};

/// Samples of one split; exactly one of `pixels` and `values` is used throughout a data set.
struct SplitData {
  std::vector<int32_t> labels;  ///< [n]
  std::vector<uint8_t> pixels;  ///< [n, channels, height, width], 0..255
  std::vector<float> values;    ///< [n, channels, height, width], already normalised
};

/// What a Dataset is made of.
struct DatasetContent {
  std::string name;
  ImageShape shape;
  std::vector<std::string> class_names;
  SplitData train, test;
  bool flip = false;                  ///< whether mirror images keep their class
  std::vector<std::string> warnings;  ///< things to log, such as a cache that could not be written
};

/// Labelled images in memory, all of one extent. Immutable, so all members are thread-safe. Indices count
/// within a split.
class Dataset {
 public:
  /// kBadInput unless counts agree, labels are in [0, number of classes), and at least one split has samples.
  explicit Dataset(DatasetContent content);

  /// Where it came from, as "digits" or "folder:DIR".
  const std::string& name() const noexcept { return content_.name; }
  const ImageShape& shape() const noexcept { return content_.shape; }
  const std::vector<std::string>& class_names() const noexcept { return content_.class_names; }
  int num_classes() const noexcept { return static_cast<int>(content_.class_names.size()); }
  const std::vector<std::string>& warnings() const noexcept { return content_.warnings; }

  /// 0 for a split that was not loaded.
  size_t num_samples(Split split) const noexcept { return of(split).labels.size(); }
  std::span<const int32_t> labels(Split split) const noexcept { return of(split).labels; }

  /// Whether samples are float32 and already normalised (values()) rather than pixels().
  bool is_normalized() const noexcept { return is_normalized_; }
  /// All samples of a split, [n, channels, height, width]; empty when is_normalized().
  std::span<const uint8_t> pixels(Split split) const noexcept { return of(split).pixels; }
  /// All samples of a split, [n, channels, height, width]; empty unless is_normalized().
  std::span<const float> values(Split split) const noexcept { return of(split).values; }

  /// Padding of an eighth of the height (4 pixels for 32); flips for photographs (cifar10, folder), none for
  /// digits, idx and npy.
  Augmentation default_augmentation() const noexcept { return {content_.shape.height / 8, content_.flip}; }

 private:
  const SplitData& of(Split split) const noexcept {
    return split == Split::kTrain ? content_.train : content_.test;
  }

  DatasetContent content_;
  bool is_normalized_;
};

/// How `load` should load.
struct LoadOptions {
  bool train = true;  ///< evaluation needs only the test split: the train files may then be missing
  bool test = true;
  ImageShape shape = {};  ///< what the network dictates, by fit_image (resize.h); 0 = as the data has it
  std::filesystem::path cache_dir = {};  ///< where decoded folders are kept; empty = nowhere
  int threads = 0;                       ///< for decoding; 0 = all cores. The result does not depend on it
};

/// Loads `spec`, one of
/// - `digits`: UCI handwritten digits, 1x8x8, built in; a fixed stratified fifth is the test split
/// - `cifar10:DIR`: the binary version: data_batch_1..5.bin, test_batch.bin, optional batches.meta.txt with
/// the class names
/// - `folder:DIR`: DIR/train/CLASS/*, DIR/test/CLASS/*, jpeg or png by extension, other files ignored;
/// classes in byte order of
///   their names. Colour unless the first image is grey; without a dictated extent all images must have that
///   of the first
/// - `idx:DIR`: MNIST's format: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte,
/// t10k-labels-idx1-ubyte
///   ('.' instead of '-' before idx is accepted)
/// - `npy:DIR`: train_x.npy, train_y.npy, test_x.npy, test_y.npy. x: uint8 [N,H,W,C] or [N,H,W] pixels, or
/// float32 [N,C,H,W] already
///   normalised; y: [N] of any integer type; optional classes.txt with one class name a line
///
/// idx and npy without classes.txt have 1 + largest label (of train where its file exists, else of test)
/// classes named by number. Errors, always naming the file: kInvalidArgument for a wrong spec; kIo for
/// missing or unreadable files; kCorruptFile for truncated, oversized or damaged ones; kBadInput for classes
/// that differ between train and test, labels out of range, empty folders and extents that do not fit;
/// kUnsupported for data larger than memory.
Dataset load(std::string_view spec, const LoadOptions& options = {});

/// Index lists, rising and disjoint, together all indices.
struct Holdout {
  std::vector<int64_t> train;
  std::vector<int64_t> val;
};

/// Sets aside `fraction` of the samples of each class, rounded to the nearest count; for 0 < fraction < 1,
/// classes of at least two samples have one or more on each side. Depends only on the arguments.
/// kInvalidArgument unless 0 <= fraction < 1.
Holdout holdout(std::span<const int32_t> labels, uint64_t seed, double fraction);

/// Of the training split of `dataset`.
Holdout holdout(const Dataset& dataset, uint64_t seed, double fraction);

}  // namespace bitstrata::data
