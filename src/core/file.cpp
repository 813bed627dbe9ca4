#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace bitstrata {
namespace {

/// Owns a file descriptor for one scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int close() {
    const int fd = fd_;
    fd_ = -1;
    return ::close(fd);
  }

 private:
  int fd_;
};

std::string reason() {
  return std::strerror(errno);
}

void sync_folder_of(const std::filesystem::path& path) {
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems refuse to sync folders; the rename itself has happened, so that is not a failure.
  if (fd.get() >= 0) (void)::fsync(fd.get());
}

/// A device, pipe or socket: renaming a file over it would destroy it, for everyone when root does so.
bool is_special(const std::filesystem::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

bool write_all(int fd, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return true;
}

void write_special_file(const std::filesystem::path& path, std::span<const uint8_t> bytes) {
  Descriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0 || !write_all(fd.get(), bytes) || fd.close() != 0) {
    fail(ErrorCode::kIo, "cannot write {}, a special file: {}; name a regular file", path.string(), reason());
  }
}

}  // namespace

std::vector<uint8_t> read_file(const std::filesystem::path& path, uint64_t limit_bytes) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0)
    fail(ErrorCode::kIo, "cannot open {}: {}; check the path and its permissions", path.string(), reason());
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) fail(ErrorCode::kIo, "cannot read {}: {}", path.string(), reason());
  if (!S_ISREG(info.st_mode)) {
    fail(ErrorCode::kBadInput, "cannot read {}: found {}, expected a regular file", path.string(),
         S_ISDIR(info.st_mode) ? "a folder" : "a special file");
  }
  const auto size_bytes = static_cast<uint64_t>(info.st_size);
  if (size_bytes > limit_bytes) {
    fail(ErrorCode::kBadInput, "{} is too large: found {} bytes, expected at most {}; is it the right file?",
         path.string(), size_bytes, limit_bytes);
  }
  std::vector<uint8_t> bytes(size_bytes);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ErrorCode::kIo, "cannot read {}: {}", path.string(), reason());
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

std::string read_text_file(const std::filesystem::path& path, uint64_t limit_bytes) {
  const auto bytes = read_file(path, limit_bytes);
  return {bytes.begin(), bytes.end()};
}

void write_file_atomically(const std::filesystem::path& path, std::span<const uint8_t> bytes) {
  if (is_special(path)) return write_special_file(path, bytes);
  std::error_code no_link;
  std::filesystem::path target = std::filesystem::canonical(path, no_link);
  if (no_link || !std::filesystem::is_symlink(path)) target = path;
  const std::filesystem::path temporary = target.string() + ".tmp" + std::to_string(::getpid());
  const auto give_up = [&](const char* step) {
    const std::string why = reason();
    ::unlink(temporary.c_str());
    fail(ErrorCode::kIo,
         "cannot write {}: {} failed: {}; check that the folder exists, is writable and has {} bytes free",
         path.string(), step, why, bytes.size());
  };
  Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (fd.get() < 0) give_up("open");
  if (!write_all(fd.get(), bytes)) give_up("write");
  if (::fsync(fd.get()) != 0) give_up("sync");
  if (fd.close() != 0) give_up("close");
  if (::rename(temporary.c_str(), target.c_str()) != 0) give_up("rename");
  sync_folder_of(target);
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  write_file_atomically(path, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

void check_writable(const std::filesystem::path& path) {
  if (is_special(path)) {
    if (::access(path.c_str(), W_OK) == 0) return;
    fail(ErrorCode::kIo, "cannot write {}, a special file: {}; name a regular file", path.string(), reason());
  }
  const std::filesystem::path probe = path.string() + ".probe" + std::to_string(::getpid());
  write_file_atomically(probe, std::string_view{});
  ::unlink(probe.c_str());
}

void make_folders(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error || !std::filesystem::is_directory(path)) {
    fail(ErrorCode::kIo, "cannot create folder {}: {}; choose a folder that can be written", path.string(),
         error ? error.message() : "a file of that name exists");
  }
}

uint64_t hash64(std::span<const uint8_t> bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace bitstrata
