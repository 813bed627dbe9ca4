#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "data/memory.h"
#include "data/resize.h"
#include "data/sources.h"

namespace bitstrata::data {
namespace {

namespace fs = std::filesystem;

/// Arrays of unsigned bytes in Y. LeCun's IDX format: 0, 0, element type, rank, big-endian extents, elements.
struct IdxArray {
  std::vector<uint32_t> extents;
  std::vector<uint8_t> bytes;
};

constexpr uint8_t kUnsignedByte = 8;

IdxArray read_idx(const fs::path& path, size_t rank) {
  auto bytes = read_file(path, memory_bytes());
  const size_t header_bytes = 4 + 4 * rank;
  if (bytes.size() < header_bytes) {
    fail(ErrorCode::kCorruptFile, "{} is truncated: found {} bytes, expected a header of {}; fetch it again",
         printable(path.string()), bytes.size(), header_bytes);
  }
  if (bytes[0] != 0 || bytes[1] != 0 || bytes[2] != kUnsignedByte || bytes[3] != rank) {
    fail(ErrorCode::kCorruptFile,
         "{} is not an IDX file of unsigned bytes with {} dimensions: it starts with "
         "{:02x}{:02x}{:02x}{:02x}, expected "
         "00000{}0{}; is it still compressed?",
         printable(path.string()), rank, bytes[0], bytes[1], bytes[2], bytes[3], kUnsignedByte, rank);
  }
  IdxArray array;
  uint64_t expected_bytes = 1;
  for (size_t d = 0; d < rank; ++d) {
    const uint8_t* at = &bytes[4 + 4 * d];
    const uint32_t extent = uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
    array.extents.push_back(extent);
    if (extent == 0 || __builtin_mul_overflow(expected_bytes, uint64_t{extent}, &expected_bytes)) {
      fail(ErrorCode::kCorruptFile, "{}: extent {} of dimension {} is unusable; fetch it again",
           printable(path.string()), extent, d);
    }
  }
  if (const size_t data_bytes = bytes.size() - header_bytes; data_bytes != expected_bytes) {
    fail(ErrorCode::kCorruptFile, "{} is {}: found {} bytes of elements, expected {}; fetch it again",
         printable(path.string()), data_bytes < expected_bytes ? "truncated" : "too long", data_bytes,
         expected_bytes);
  }
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header_bytes));
  array.bytes = std::move(bytes);
  return array;
}

/// The file as it is or with '.' before "idx", as some tools unpack it; the first name when neither exists.
fs::path find_idx(const fs::path& dir, const std::string& stem, const std::string& suffix) {
  const fs::path dashed = dir / (stem + "-" + suffix), dotted = dir / (stem + "." + suffix);
  return !fs::exists(dashed) && fs::exists(dotted) ? dotted : dashed;
}

/// One split before its classes and extent are settled.
struct RawSplit {
  fs::path labels_path;
  std::vector<int64_t> labels;
  ImageShape shape;
  std::vector<uint8_t> pixels;
};

RawSplit read_labels(const fs::path& dir, const std::string& stem) {
  RawSplit raw;
  raw.labels_path = find_idx(dir, stem + "-labels", "idx1-ubyte");
  const IdxArray labels = read_idx(raw.labels_path, 1);
  raw.labels.assign(labels.bytes.begin(), labels.bytes.end());
  return raw;
}

void read_images(const fs::path& dir, const std::string& stem, RawSplit& raw) {
  const fs::path path = find_idx(dir, stem + "-images", "idx3-ubyte");
  IdxArray images = read_idx(path, 3);
  if (images.extents[0] != raw.labels.size()) {
    fail(ErrorCode::kBadInput, "{} has {} images, but {} has {} labels; expected as many",
         printable(path.string()), images.extents[0], printable(raw.labels_path.string()), raw.labels.size());
  }
  if (images.extents[1] > kMaxImageSide || images.extents[2] > kMaxImageSide) {
    fail(ErrorCode::kBadInput, "{} has images of {}x{}, expected at most {} a side", printable(path.string()),
         images.extents[1], images.extents[2], kMaxImageSide);
  }
  raw.shape = {1, static_cast<int>(images.extents[1]), static_cast<int>(images.extents[2])};
  raw.pixels = std::move(images.bytes);
}

}  // namespace

DatasetContent load_idx(const fs::path& dir, const LoadOptions& options) {
  std::optional<RawSplit> train, test;
  // Train labels are read for their classes even when only the test split is needed.
  if (options.train || fs::exists(find_idx(dir, "train-labels", "idx1-ubyte")))
    train = read_labels(dir, "train");
  if (options.test) test = read_labels(dir, "t10k");
  if (options.train) read_images(dir, "train", *train);
  if (options.test) read_images(dir, "t10k", *test);

  DatasetContent content;
  const RawSplit& first = train ? *train : *test;
  const int num_classes = count_classes(first.labels, first.labels_path.string());
  content.class_names = numbered_classes(num_classes);
  content.shape = resolve_shape(options.shape, (options.train ? *train : *test).shape, dir.string());
  const auto settle = [&](RawSplit& raw, SplitData& split) {
    const ImageShape target = resolve_shape(options.shape, raw.shape, dir.string());
    if (target != content.shape) {
      fail(ErrorCode::kBadInput, "{}: train images are {}, test images {}; expected the same extent",
           printable(dir.string()), to_string(content.shape), to_string(target));
    }
    split.labels = checked_labels(raw.labels, num_classes, raw.labels_path.string());
    split.pixels = fit_images(std::move(raw.pixels), raw.shape, content.shape, options.threads);
  };
  if (options.train) settle(*train, content.train);
  if (options.test) settle(*test, content.test);
  return content;
}

}  // namespace bitstrata::data
