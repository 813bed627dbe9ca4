#pragma once

// Inside the module: decoded pixels kept in a file between runs.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitstrata::data {

/// File layout, little endian: the pixels; then the trailer: magic "BSPIXEL1", fingerprint (u64), number of
/// pixel bytes (u64), and hash64 (u64) of all bytes before it.
struct CacheEntry {
  std::filesystem::path path;
  uint64_t fingerprint =
      0;  ///< hash of everything the pixels depend on; another value in the file means stale
  uint64_t pixel_bytes = 0;
};

inline constexpr size_t kCacheTrailerBytes = 32;

/// The file in `cache_dir` for the thing named by `key` (any text).
std::filesystem::path cache_path(const std::filesystem::path& cache_dir, std::string_view key);

/// The cached pixels; nothing when the file is missing, stale, damaged or unreadable. Never throws for those.
std::optional<std::vector<uint8_t>> read_cache(const CacheEntry& entry);

/// Writes the cache file atomically, creating its folder. Returns why that failed, or an empty string.
/// `pixels` is unchanged afterwards (the trailer is put behind it for the time of writing:
/// with capacity for kCacheTrailerBytes more, nothing is copied).
std::string write_cache(const CacheEntry& entry, std::vector<uint8_t>& pixels);

}  // namespace bitstrata::data
