#include <optional>

#include "core/error.h"
#include "data/npy.h"
#include "data/resize.h"
#include "data/sources.h"

namespace bitstrata::data {
namespace {

namespace fs = std::filesystem;

std::vector<int64_t> read_labels(const fs::path& path) {
  const NpyArray array = read_npy(path);
  if (array.shape.size() != 1) {
    fail(ErrorCode::kBadInput, "{} has shape {}, expected [N] labels", printable(path.string()),
         to_string(array.shape));
  }
  return array.to_int64(path.string());
}

int checked_extent(int64_t extent, const fs::path& path) {
  if (extent < 1 || extent > kMaxImageSide) {
    fail(ErrorCode::kBadInput, "{} has an extent of {}, expected 1 to {}", printable(path.string()), extent,
         kMaxImageSide);
  }
  return static_cast<int>(extent);
}

/// Channels last, as pictures are kept in NumPy, to planes.
std::vector<uint8_t> images_to_planes(const std::vector<uint8_t>& nhwc, const ImageShape& shape) {
  const auto channels = static_cast<size_t>(shape.channels);
  if (channels == 1) return nhwc;
  const size_t plane_elems = shape.num_elems() / channels;
  std::vector<uint8_t> planes(nhwc.size());
  for (size_t image = 0; image < nhwc.size(); image += shape.num_elems()) {
    for (size_t i = 0; i < plane_elems; ++i) {
      for (size_t c = 0; c < channels; ++c)
        planes[image + c * plane_elems + i] = nhwc[image + i * channels + c];
    }
  }
  return planes;
}

/// Reads x into `split` and returns its extent after fitting it to what is wanted.
ImageShape read_samples(const fs::path& path, const LoadOptions& options, SplitData& split) {
  const NpyArray array = read_npy(path);
  const auto& shape = array.shape;
  const bool is_pixels = array.dtype() == "|u1" && (shape.size() == 3 || shape.size() == 4);
  const bool is_float = array.dtype() == "<f4" && shape.size() == 4;
  if (!is_pixels && !is_float) {
    fail(ErrorCode::kBadInput,
         "{} is '{}' of shape {}, expected uint8 [N, H, W, C] or [N, H, W], or normalised float32 [N, C, H, "
         "W]",
         printable(path.string()), array.dtype(), to_string(shape));
  }
  const auto extent = [&](size_t axis) { return checked_extent(shape[axis], path); };
  if (is_float) {
    const ImageShape found{extent(1), extent(2), extent(3)};
    if (resolve_shape(options.shape, found, path.string()) != found) {
      fail(ErrorCode::kBadInput,
           "{} has samples of {}, the network expects {}; normalised values are not resized",
           printable(path.string()), to_string(found), to_string(options.shape));
    }
    split.values = array.to_float(path.string());
    return found;
  }
  const ImageShape found{shape.size() == 4 ? extent(3) : 1, extent(1), extent(2)};
  const ImageShape target = resolve_shape(options.shape, found, path.string());
  split.pixels = fit_images(images_to_planes(array.bytes, found), found, target, options.threads);
  return target;
}

}  // namespace

DatasetContent load_npy(const fs::path& dir, const LoadOptions& options) {
  DatasetContent content;
  const fs::path train_y = dir / "train_y.npy", test_y = dir / "test_y.npy", classes = dir / "classes.txt";
  std::vector<int64_t> train_labels, test_labels;
  // Train labels are read for their classes even when only the test split is needed.
  const bool has_train_labels = options.train || fs::exists(train_y);
  if (has_train_labels) train_labels = read_labels(train_y);
  if (options.test) test_labels = read_labels(test_y);
  content.class_names =
      fs::exists(classes) ? read_class_names(classes)
                          : numbered_classes(has_train_labels ? count_classes(train_labels, train_y.string())
                                                              : count_classes(test_labels, test_y.string()));

  std::optional<ImageShape> shape;
  const auto read_split = [&](Split which, const fs::path& y_path, const std::vector<int64_t>& labels,
                              SplitData& split) {
    const fs::path x_path = dir / fmt::format("{}_x.npy", to_string(which));
    const ImageShape found = read_samples(x_path, options, split);
    const size_t count = (split.pixels.size() + split.values.size()) / found.num_elems();
    if (count != labels.size() || count == 0) {
      fail(ErrorCode::kBadInput, "{} has {} samples and {} has {} labels, expected as many and at least one",
           printable(x_path.string()), count, printable(y_path.string()), labels.size());
    }
    if (shape && *shape != found) {
      fail(ErrorCode::kBadInput, "{} has samples of {}, the train split has {}; expected the same extent",
           printable(x_path.string()), to_string(found), to_string(*shape));
    }
    shape = found;
    split.labels = checked_labels(labels, static_cast<int>(content.class_names.size()), y_path.string());
  };
  if (options.train) read_split(Split::kTrain, train_y, train_labels, content.train);
  if (options.test) read_split(Split::kTest, test_y, test_labels, content.test);
  if (shape) content.shape = *shape;
  return content;
}

}  // namespace bitstrata::data
