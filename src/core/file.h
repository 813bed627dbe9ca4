#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitstrata {

/// Reads a whole regular file. Errors: kIo when it cannot be opened or read, kBadInput when it is not a regular file or
/// larger than `limit_bytes` (checked before memory is allocated).
std::vector<uint8_t> read_file(const std::filesystem::path& path, uint64_t limit_bytes);

/// As read_file, as text.
std::string read_text_file(const std::filesystem::path& path, uint64_t limit_bytes = 64u << 20);

/// Replaces `path` with `bytes` atomically: written to a temporary name in the same folder, synced, renamed; the folder is
/// synced too. On failure (kIo: unwritable folder, full disk) the old file is untouched and the temporary one removed.
/// A symbolic link stays: the file it names is replaced. A device, pipe or socket stays too: `bytes` are written into it.
void write_file_atomically(const std::filesystem::path& path, std::span<const uint8_t> bytes);
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// Throws the kIo error that write_file_atomically would, before long work whose result goes to `path` begins. Writes nothing that stays.
void check_writable(const std::filesystem::path& path);

/// Creates `path` and its parents. kIo with the reason when that is impossible.
void make_folders(const std::filesystem::path& path);

/// 64-bit XXH3 hash of `bytes`, the checksum of every file that bitstrata writes.
uint64_t hash64(std::span<const uint8_t> bytes) noexcept;

}  // namespace bitstrata
