#include "train/checkpoint.h"

#include <cstring>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/file.h"

namespace bitstrata::train {
namespace {

constexpr char kMagic[8] = {'B', 'S', 'C', 'K', 'P', 'T', '0', '1'};
constexpr size_t kHeaderBytes = sizeof(kMagic) + 16;
constexpr uint64_t kLimitBytes = uint64_t{16} << 30;

std::span<const uint8_t> bytes_of(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

}  // namespace

void write_checkpoint(const std::filesystem::path& path, const std::string& payload) {
  std::string file(kHeaderBytes, '\0');
  const uint64_t size = payload.size(), hash = hash64(bytes_of(payload));
  std::memcpy(file.data(), kMagic, sizeof(kMagic));
  std::memcpy(file.data() + 8, &size, 8);
  std::memcpy(file.data() + 16, &hash, 8);
  write_file_atomically(path, file + payload);
}

std::string read_checkpoint(const std::filesystem::path& path) {
  const std::vector<uint8_t> file = read_file(path, kLimitBytes);
  const auto damaged = [&](const char* what) {
    fail(ErrorCode::kCorruptFile, "{}: damaged checkpoint: {}; delete it to start again", path.string(), what);
  };
  if (file.size() < kHeaderBytes || std::memcmp(file.data(), kMagic, sizeof(kMagic)) != 0) damaged("not a checkpoint of this version");
  uint64_t size = 0, hash = 0;
  std::memcpy(&size, file.data() + 8, 8);
  std::memcpy(&hash, file.data() + 16, 8);
  if (size != file.size() - kHeaderBytes) damaged("its length is wrong");
  const std::span<const uint8_t> payload = std::span(file).subspan(kHeaderBytes);
  if (hash64(payload) != hash) damaged("its checksum is wrong");
  return {payload.begin(), payload.end()};
}

}  // namespace bitstrata::train
