#include "format/container.h"

#include <zstd.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/file.h"
#include "format/bst.h"

namespace bitstrata::format {
namespace {

constexpr std::array<uint8_t, 8> kMagic = {0x89, 'B', 'S', 'T', 0x0d, 0x0a, 0x1a, 0x0a};
constexpr std::array<const char*, 3> kSectionNames = {"metadata", "weights", "floats"};
constexpr size_t kSectionCount = kSectionNames.size();
constexpr size_t kWeightsIndex = 1;
constexpr size_t kTableOffset = 24;
constexpr size_t kEntryBytes = 32;
constexpr size_t kChecksumOffset = kTableOffset + kSectionCount * kEntryBytes;
static_assert(kChecksumOffset + 8 == kHeaderBytes);

constexpr uint32_t kStored = 0;
constexpr uint32_t kZstd = 1;
// Sections are small and written once, so the slowest level without extra-large windows costs little.
constexpr int kZstdLevel = 19;

struct Entry {
  uint32_t id = 0;
  uint32_t codec = kStored;
  uint64_t stored_bytes = 0;
  uint64_t raw_bytes = 0;
  uint64_t checksum = 0;
};

template <typename T>
void put(std::span<uint8_t> bytes, size_t offset, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) bytes[offset + i] = static_cast<uint8_t>(value >> (8 * i));
}

template <typename T>
T get(std::span<const uint8_t> bytes, size_t offset) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(bytes[offset + i]) << (8 * i);
  return value;
}

/// The zstd frame of `raw` where that is smaller and a reader may expand it; empty otherwise.
std::vector<uint8_t> compress(std::span<const uint8_t> raw) {
  std::vector<uint8_t> frame(ZSTD_compressBound(raw.size()));
  const size_t size = ZSTD_compress(frame.data(), frame.size(), raw.data(), raw.size(), kZstdLevel);
  if (ZSTD_isError(size))
    fail(ErrorCode::kInternal, "zstd refused {} bytes: {}", raw.size(), ZSTD_getErrorName(size));
  if (size >= raw.size() || raw.size() > max_raw_bytes(size)) return {};
  frame.resize(size);
  return frame;
}

std::vector<uint8_t> decompress(std::span<const uint8_t> stored, uint64_t raw_bytes, const char* section,
                                const std::string& name) {
  const unsigned long long content = ZSTD_getFrameContentSize(stored.data(), stored.size());
  const size_t frame = ZSTD_findFrameCompressedSize(stored.data(), stored.size());
  if (content != raw_bytes || frame != stored.size()) {
    fail(ErrorCode::kCorruptFile, "{}: section {} is not one zstd frame of {} bytes; make the file again",
         name, section, raw_bytes);
  }
  std::vector<uint8_t> raw(raw_bytes);
  const size_t size = ZSTD_decompress(raw.data(), raw.size(), stored.data(), stored.size());
  if (ZSTD_isError(size) || size != raw_bytes) {
    fail(ErrorCode::kCorruptFile, "{}: section {} does not decompress: {}; make the file again", name,
         section, ZSTD_isError(size) ? ZSTD_getErrorName(size) : "wrong size");
  }
  return raw;
}

Entry read_entry(std::span<const uint8_t> bytes, size_t index, const std::string& name) {
  const size_t at = kTableOffset + index * kEntryBytes;
  const Entry entry{get<uint32_t>(bytes, at), get<uint32_t>(bytes, at + 4), get<uint64_t>(bytes, at + 8),
                    get<uint64_t>(bytes, at + 16), get<uint64_t>(bytes, at + 24)};
  const char* section = kSectionNames[index];
  if (entry.id != index + 1) {
    fail(ErrorCode::kCorruptFile,
         "{}: section entry at offset {} has id {}, expected {}; make the file again", name, at, entry.id,
         index + 1);
  }
  if (entry.codec > (index == kWeightsIndex ? kStored : kZstd)) {
    fail(ErrorCode::kCorruptFile,
         "{}: section {} has codec {}, which version {} does not know there; make the file again", name,
         section, entry.codec, kVersion);
  }
  // Comparing with what is there first keeps max_raw_bytes() from overflowing.
  if (entry.stored_bytes > bytes.size()) {
    fail(ErrorCode::kCorruptFile, "{}: section {} claims {} bytes of a file of {}; make the file again", name,
         section, entry.stored_bytes, bytes.size());
  }
  const bool raw_fits = entry.codec == kStored ? entry.raw_bytes == entry.stored_bytes
                                               : entry.raw_bytes <= max_raw_bytes(entry.stored_bytes);
  if (!raw_fits || (index == 0 && entry.raw_bytes > kMaxMetadataBytes)) {
    fail(ErrorCode::kCorruptFile,
         "{}: section {} claims {} bytes from {} stored ones, more than allowed; make the file again", name,
         section, entry.raw_bytes, entry.stored_bytes);
  }
  return entry;
}

void check_header(std::span<const uint8_t> bytes, const std::string& name) {
  if (!looks_like_bst(bytes)) {
    fail(ErrorCode::kCorruptFile,
         "{}: found other bytes at offset 0, expected the magic number of a .bst file; is it the right file?",
         name);
  }
  if (bytes.size() < kHeaderBytes) {
    fail(ErrorCode::kCorruptFile,
         "{}: found {} bytes, expected a header of {}; the file is cut off, copy it again", name,
         bytes.size(), kHeaderBytes);
  }
  const auto version = get<uint32_t>(bytes, 8);
  if (version > kVersion) {
    fail(ErrorCode::kUnsupported,
         "{}: found .bst format version {}, this program reads versions 1 to {}; use a newer bitstrata", name,
         version, kVersion);
  }
  if (get<uint64_t>(bytes, kChecksumOffset) != hash64(bytes.first(kChecksumOffset))) {
    fail(ErrorCode::kCorruptFile,
         "{}: the header checksum at offset {} does not match; the file is damaged, copy it again", name,
         kChecksumOffset);
  }
  if (version == 0 || get<uint32_t>(bytes, 12) != kSectionCount) {
    fail(ErrorCode::kCorruptFile,
         "{}: found version {} with {} sections, expected version 1 or more with {}; make the file again",
         name, version, get<uint32_t>(bytes, 12), kSectionCount);
  }
  if (const auto size = get<uint64_t>(bytes, 16); size != bytes.size()) {
    fail(ErrorCode::kCorruptFile, "{}: found {} bytes, the header says {}; the file is {}, copy it again",
         name, bytes.size(), size, bytes.size() < size ? "cut off" : "followed by other data");
  }
}

}  // namespace

bool looks_like_bst(std::span<const uint8_t> bytes) noexcept {
  return bytes.size() >= kMagic.size() && std::equal(kMagic.begin(), kMagic.end(), bytes.begin());
}

std::vector<uint8_t> pack_sections(const Sections& sections, Compression compression) {
  if (sections.metadata.size() > kMaxMetadataBytes) {
    fail(
        ErrorCode::kUnsupported,
        "the network's metadata has {} bytes, a .bst file holds at most {}; shorten names and gather indices",
        sections.metadata.size(), kMaxMetadataBytes);
  }
  const std::array<const std::vector<uint8_t>*, kSectionCount> raw = {&sections.metadata, &sections.weights,
                                                                      &sections.floats};
  std::vector<uint8_t> file(kHeaderBytes);
  for (size_t i = 0; i < kSectionCount; ++i) {
    std::vector<uint8_t> frame;
    if (compression == Compression::kBest && i != kWeightsIndex) frame = compress(*raw[i]);
    const std::vector<uint8_t>& stored = frame.empty() ? *raw[i] : frame;
    file.insert(file.end(), stored.begin(), stored.end());
    const size_t at = kTableOffset + i * kEntryBytes;
    put(file, at, static_cast<uint32_t>(i + 1));
    put(file, at + 4, frame.empty() ? kStored : kZstd);
    put(file, at + 8, static_cast<uint64_t>(stored.size()));
    put(file, at + 16, static_cast<uint64_t>(raw[i]->size()));
    put(file, at + 24, hash64(stored));
  }
  std::copy(kMagic.begin(), kMagic.end(), file.begin());
  put(file, 8, kVersion);
  put(file, 12, static_cast<uint32_t>(kSectionCount));
  put(file, 16, static_cast<uint64_t>(file.size()));
  put(file, kChecksumOffset, hash64(std::span(file).first(kChecksumOffset)));
  return file;
}

Sections unpack_sections(std::span<const uint8_t> bytes, const std::string& name) {
  check_header(bytes, name);
  std::array<Entry, kSectionCount> entries;
  for (size_t i = 0; i < kSectionCount; ++i) entries[i] = read_entry(bytes, i, name);
  uint64_t total_bytes = kHeaderBytes;
  for (const Entry& entry : entries) total_bytes += entry.stored_bytes;
  if (total_bytes != bytes.size()) {
    fail(ErrorCode::kCorruptFile,
         "{}: header and sections have {} bytes, the file has {}; make the file again", name, total_bytes,
         bytes.size());
  }
  std::array<std::vector<uint8_t>, kSectionCount> raw;
  size_t at = kHeaderBytes;
  for (size_t i = 0; i < kSectionCount; ++i) {
    const auto stored = bytes.subspan(at, entries[i].stored_bytes);
    if (hash64(stored) != entries[i].checksum) {
      fail(ErrorCode::kCorruptFile,
           "{}: the checksum of section {} (offset {}, {} bytes) does not match; the file is damaged, copy "
           "it again",
           name, kSectionNames[i], at, stored.size());
    }
    if (entries[i].codec == kZstd) {
      raw[i] = decompress(stored, entries[i].raw_bytes, kSectionNames[i], name);
    } else {
      raw[i].assign(stored.begin(), stored.end());
    }
    at += stored.size();
  }
  return {std::move(raw[0]), std::move(raw[1]), std::move(raw[2])};
}

}  // namespace bitstrata::format
