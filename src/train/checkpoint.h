#pragma once

#include <filesystem>
#include <string>

namespace bitstrata::train {

/// Writes a checkpoint atomically: magic, version, payload size and XXH3-64, payload.
void write_checkpoint(const std::filesystem::path& path, const std::string& payload);

/// Reads the payload back. kCorruptFile when the file is not exactly what write_checkpoint wrote; kIo, kBadInput as read_file.
std::string read_checkpoint(const std::filesystem::path& path);

}  // namespace bitstrata::train
