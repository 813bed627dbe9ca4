#include <sys/stat.h>

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "data/cache.h"
#include "data/memory.h"
#include "data/parallel.h"
#include "data/resize.h"
#include "data/sources.h"

namespace bitstrata::data {
namespace {

namespace fs = std::filesystem;

/// Part of the cache's fingerprint: raise it whenever the same files would give other pixels.
constexpr int kDecodeVersion = 1;

/// The image files of one split, in order of class and name.
struct Listing {
  std::vector<fs::path> files;
  std::vector<int32_t> labels;
  std::string fingerprint_text;  ///< names, sizes and times of all files
};

bool is_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

/// Names of the class folders in `split_dir`, in byte order. kIo when it is missing, kBadInput when it holds
/// none.
std::vector<std::string> list_classes(const fs::path& split_dir) {
  if (!fs::is_directory(split_dir)) {
    fail(ErrorCode::kIo, "folder {} is missing; expected DIR/train/CLASS/* and DIR/test/CLASS/*",
         printable(split_dir.string()));
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(split_dir)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && !name.starts_with('.')) names.push_back(name);
  }
  if (names.empty()) {
    fail(ErrorCode::kBadInput, "folder {} has no class folders; expected {}/CLASS/*.jpg or *.png",
         printable(split_dir.string()), printable(split_dir.string()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// "SIZE/SECONDS/NANOSECONDS" of the last change, in one call to the system: there may be millions of files.
std::string size_and_time(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) fail(ErrorCode::kIo, "cannot read {}", printable(path.string()));
  return fmt::format("{}/{}/{}", info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

Listing list_files(const fs::path& split_dir, const std::vector<std::string>& classes) {
  Listing listing;
  for (size_t label = 0; label < classes.size(); ++label) {
    const fs::path class_dir = split_dir / classes[label];
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(class_dir)) {
      if (is_image_name(entry.path()) && entry.is_regular_file())
        names.push_back(entry.path().filename().string());
    }
    if (names.empty()) {
      fail(ErrorCode::kBadInput, "class folder {} has no jpeg or png files; add some or remove the folder",
           printable(class_dir.string()));
    }
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      listing.files.push_back(class_dir / name);
      listing.labels.push_back(static_cast<int32_t>(label));
      listing.fingerprint_text +=
          fmt::format("{}/{}/{}\n", classes[label], name, size_and_time(listing.files.back()));
    }
  }
  return listing;
}

/// Extent of the first image: what the data has where nothing is dictated.
ImageShape shape_of_first(const Listing& listing) {
  return read_image(listing.files.front()).shape;
}

std::vector<uint8_t> decode_all(const Listing& listing, const ImageShape& shape, const LoadOptions& options) {
  const bool is_extent_dictated = options.shape.height != 0;
  const bool are_channels_dictated = options.shape.channels != 0;
  const size_t pixel_bytes = listing.files.size() * shape.num_elems();
  std::vector<uint8_t> pixels;
  pixels.reserve(pixel_bytes + kCacheTrailerBytes);
  pixels.resize(pixel_bytes);
  parallel_for(listing.files.size(), 16, options.threads, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const Image image = read_image(listing.files[i]);
      const bool fits =
          is_extent_dictated || (image.shape.height == shape.height && image.shape.width == shape.width);
      if (!fits || (!are_channels_dictated && image.shape.channels > shape.channels)) {
        fail(ErrorCode::kBadInput,
             "image {} is {}, the first one {}; expected one extent and colour, or a network that "
             "dictates them",
             printable(listing.files[i].string()), to_string(image.shape), to_string(shape));
      }
      fit_image(image.pixels.data(), image.shape, &pixels[i * shape.num_elems()], shape);
    }
  });
  return pixels;
}

uint64_t hash_text(const std::string& text) {
  return hash64(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

/// The pixels of a split from the cache or the files. `warnings` gains a line when the cache cannot be
/// written.
std::vector<uint8_t> load_pixels(const fs::path& split_dir, const Listing& listing, const ImageShape& shape,
                                 const LoadOptions& options, std::vector<std::string>& warnings) {
  check_fits_memory(listing.files.size(), shape.num_elems(), split_dir.string());
  if (options.cache_dir.empty()) return decode_all(listing, shape, options);
  const std::string key = fmt::format("{}\nwanted {}\nmade {}", fs::weakly_canonical(split_dir).string(),
                                      to_string(options.shape), to_string(shape));
  CacheEntry entry;
  entry.path = cache_path(options.cache_dir, key);
  entry.fingerprint =
      hash_text(fmt::format("{}\nversion {}\n{}", key, kDecodeVersion, listing.fingerprint_text));
  entry.pixel_bytes = listing.files.size() * shape.num_elems();
  if (auto cached = read_cache(entry)) return std::move(*cached);
  auto pixels = decode_all(listing, shape, options);
  if (const std::string warning = write_cache(entry, pixels); !warning.empty()) {
    warnings.push_back("decoded images are not cached: " + warning);
  }
  return pixels;
}

}  // namespace

DatasetContent load_folder(const fs::path& dir, const LoadOptions& options) {
  const fs::path train_dir = dir / "train", test_dir = dir / "test";
  const bool has_train = options.train || fs::is_directory(train_dir);
  const bool has_test = options.test || fs::is_directory(test_dir);
  const auto train_classes = has_train ? list_classes(train_dir) : std::vector<std::string>{};
  const auto test_classes = has_test ? list_classes(test_dir) : std::vector<std::string>{};
  if (has_train && has_test) check_same_classes(train_classes, test_classes, dir.string());

  DatasetContent content;
  content.flip = true;
  content.class_names = has_train ? train_classes : test_classes;
  Listing train, test;
  if (options.train) train = list_files(train_dir, content.class_names);
  if (options.test) test = list_files(test_dir, content.class_names);
  content.shape = resolve_shape(options.shape, shape_of_first(options.train ? train : test), dir.string());
  const auto fill = [&](const fs::path& split_dir, Listing& listing, SplitData& split) {
    split.pixels = load_pixels(split_dir, listing, content.shape, options, content.warnings);
    split.labels = std::move(listing.labels);
  };
  if (options.train) fill(train_dir, train, content.train);
  if (options.test) fill(test_dir, test, content.test);
  return content;
}

}  // namespace bitstrata::data
