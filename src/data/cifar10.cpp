#include "core/error.h"
#include "core/file.h"
#include "data/resize.h"
#include "data/sources.h"

namespace bitstrata::data {
namespace {

constexpr ImageShape kShape{3, 32, 32};
constexpr size_t kPixelBytes = 3 * 32 * 32;
constexpr size_t kRecordBytes = 1 + kPixelBytes;
constexpr int kNumClasses = 10;
/// The published files have 10,000 records each.
constexpr uint64_t kMaxFileBytes = 100'000 * kRecordBytes;

/// Appends the records of one file: a label byte, then the red, green and blue planes.
void append_batch(const std::filesystem::path& path, SplitData& split) {
  const auto bytes = read_file(path, kMaxFileBytes);
  if (bytes.empty() || bytes.size() % kRecordBytes != 0) {
    fail(ErrorCode::kCorruptFile,
         "{} is truncated or not a CIFAR-10 batch: found {} bytes, expected a multiple of {}; "
         "unpack the binary version again",
         printable(path.string()), bytes.size(), kRecordBytes);
  }
  for (size_t at = 0; at < bytes.size(); at += kRecordBytes) {
    if (bytes[at] >= kNumClasses) {
      fail(ErrorCode::kCorruptFile, "{}: label {} at byte {} is out of range, expected 0 to {}",
           printable(path.string()), bytes[at], at, kNumClasses - 1);
    }
    split.labels.push_back(bytes[at]);
    const auto pixels = bytes.begin() + static_cast<std::ptrdiff_t>(at) + 1;
    split.pixels.insert(split.pixels.end(), pixels, pixels + kPixelBytes);
  }
}

std::vector<std::string> class_names(const std::filesystem::path& dir) {
  const auto path = dir / "batches.meta.txt";
  if (!std::filesystem::exists(path)) {
    return {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
  }
  auto names = read_class_names(path);
  if (names.size() != kNumClasses) {
    fail(ErrorCode::kBadInput, "{} has {} class names, expected {}", printable(path.string()), names.size(),
         kNumClasses);
  }
  return names;
}

}  // namespace

DatasetContent load_cifar10(const std::filesystem::path& dir, const LoadOptions& options) {
  DatasetContent content;
  content.shape = resolve_shape(options.shape, kShape, dir.string());
  content.class_names = class_names(dir);
  content.flip = true;
  if (options.train) {
    for (int i = 1; i <= 5; ++i) append_batch(dir / fmt::format("data_batch_{}.bin", i), content.train);
  }
  if (options.test) append_batch(dir / "test_batch.bin", content.test);
  for (SplitData* split : {&content.train, &content.test}) {
    split->pixels = fit_images(std::move(split->pixels), kShape, content.shape, options.threads);
  }
  return content;
}

}  // namespace bitstrata::data
