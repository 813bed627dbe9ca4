#include "data/cache.h"

#include <bit>
#include <cstring>

#include "core/error.h"
#include "core/file.h"

namespace bitstrata::data {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the cache and .npy files are read as little endian");

struct Trailer {
  char magic[8] = {'B', 'S', 'P', 'I', 'X', 'E', 'L', '1'};
  uint64_t fingerprint = 0;
  uint64_t pixel_bytes = 0;
};
static_assert(kCacheTrailerBytes == sizeof(Trailer) + sizeof(uint64_t));

std::vector<uint8_t> make_trailer(const CacheEntry& entry) {
  Trailer trailer;
  trailer.fingerprint = entry.fingerprint;
  trailer.pixel_bytes = entry.pixel_bytes;
  std::vector<uint8_t> bytes(sizeof(Trailer));
  std::memcpy(bytes.data(), &trailer, sizeof(Trailer));
  return bytes;
}

}  // namespace

std::filesystem::path cache_path(const std::filesystem::path& cache_dir, std::string_view key) {
  const auto hash = hash64(std::span(reinterpret_cast<const uint8_t*>(key.data()), key.size()));
  return cache_dir / fmt::format("pixels-{:016x}.cache", hash);
}

std::optional<std::vector<uint8_t>> read_cache(const CacheEntry& entry) {
  std::error_code error;
  if (std::filesystem::file_size(entry.path, error) != entry.pixel_bytes + kCacheTrailerBytes || error)
    return {};
  std::vector<uint8_t> bytes;
  try {
    bytes = read_file(entry.path, entry.pixel_bytes + kCacheTrailerBytes);
  } catch (const Error&) {
    return {};
  }
  if (bytes.size() != entry.pixel_bytes + kCacheTrailerBytes) return {};
  const auto trailer = make_trailer(entry);
  const size_t hashed_bytes = entry.pixel_bytes + sizeof(Trailer);
  const uint64_t hash = hash64(std::span(bytes).first(hashed_bytes));
  if (std::memcmp(bytes.data() + entry.pixel_bytes, trailer.data(), trailer.size()) != 0 ||
      std::memcmp(bytes.data() + hashed_bytes, &hash, sizeof(hash)) != 0) {
    return {};
  }
  bytes.resize(entry.pixel_bytes);
  return bytes;
}

std::string write_cache(const CacheEntry& entry, std::vector<uint8_t>& pixels) {
  const size_t pixel_bytes = pixels.size();
  std::string warning;
  try {
    make_folders(entry.path.parent_path());
    const auto trailer = make_trailer(entry);
    pixels.insert(pixels.end(), trailer.begin(), trailer.end());
    const uint64_t hash = hash64(pixels);
    const auto* hash_bytes = reinterpret_cast<const uint8_t*>(&hash);
    pixels.insert(pixels.end(), hash_bytes, hash_bytes + sizeof(hash));
    write_file_atomically(entry.path, pixels);
  } catch (const Error& error) {
    warning = error.what();
  }
  pixels.resize(pixel_bytes);
  return warning;
}

}  // namespace bitstrata::data
