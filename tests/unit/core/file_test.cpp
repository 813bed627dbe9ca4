#include "core/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>

#include "core/error.h"

namespace bitstrata {
namespace {

namespace fs = std::filesystem;

class FileTest : public ::testing::Test {
 protected:
  FileTest()
      : folder_(fs::temp_directory_path() /
                (std::string("bitstrata_") + ::testing::UnitTest::GetInstance()->current_test_info()->name() +
                 "_" + std::to_string(::getpid()))) {
    fs::create_directory(folder_);
  }
  ~FileTest() override { fs::remove_all(folder_); }

  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  const fs::path folder_;
};

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::Not(::testing::HasSubstr("\n")));
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST_F(FileTest, ReplacesAFileAndLeavesNothingElse) {
  const fs::path path = folder_ / "file";
  write_file_atomically(path, std::string_view("first and longer"));
  write_file_atomically(path, std::string_view("second"));
  EXPECT_EQ(read_text_file(path), "second");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, FailureKeepsTheOldFileAndRemovesTheTemporaryOne) {
  fs::create_directory(folder_ / "taken");
  EXPECT_EQ(code_of([&] { write_file_atomically(folder_ / "taken", std::string_view("x")); }),
            ErrorCode::kIo);
  EXPECT_TRUE(fs::is_directory(folder_ / "taken"));
  EXPECT_EQ(entries(), 1u);
  EXPECT_EQ(code_of([&] { write_file_atomically(folder_ / "none" / "x", std::string_view("x")); }),
            ErrorCode::kIo);
}

TEST_F(FileTest, ASymbolicLinkStaysAndItsFileIsReplaced) {
  fs::create_directory(folder_ / "elsewhere");
  write_file_atomically(folder_ / "elsewhere" / "file", std::string_view("old"));
  fs::create_symlink("elsewhere/file", folder_ / "link");
  write_file_atomically(folder_ / "link", std::string_view("new"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_text_file(folder_ / "elsewhere" / "file"), "new");
  EXPECT_EQ(entries(), 2u);
}

// A device was once replaced by a regular file through a rename; a pipe shows the same without harm to the
// machine.
TEST_F(FileTest, APipeIsWrittenIntoAndStays) {
  const fs::path path = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  check_writable(path);
  write_file_atomically(path, std::string_view("through"));
  std::array<char, 16> got{};
  EXPECT_EQ(::read(reader, got.data(), got.size()), 7);
  ::close(reader);
  EXPECT_STREQ(got.data(), "through");
  EXPECT_TRUE(fs::is_fifo(path));
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, ASocketIsRefusedAndStays) {
  const fs::path path = folder_ / "s";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.string().size(), sizeof address.sun_path);
  std::strcpy(address.sun_path, path.c_str());
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(code_of([&] { write_file_atomically(path, std::string_view("x")); }), ErrorCode::kIo);
  EXPECT_TRUE(fs::is_socket(path));
  ::close(listener);
}

}  // namespace
}  // namespace bitstrata
