#include <gmock/gmock.h>

#include <cstring>

#include "core/file.h"
#include "data/npy.h"
#include "format/bst.h"
#include "tests/cli/network.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;

/// Everything the dynamic loader opened while a command ran.
std::string loaded_libraries(const TemporaryFolder& folder, const std::vector<std::string>& arguments) {
  const Finished finished = bitstrata(arguments, {"LD_DEBUG=libs", "LD_DEBUG_OUTPUT=" + (folder / "loader")});
  EXPECT_EQ(finished.status, 0) << finished.err;
  std::string text;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    if (entry.path().filename().string().starts_with("loader.")) {
      text += read_text_file(entry.path());
      std::filesystem::remove(entry.path());
    }
  }
  EXPECT_THAT(text, HasSubstr("libc.so")) << "the loader's log is missing";
  return text;
}

TEST(CliLight, NeverLoadsLibTorch) {
  const TemporaryFolder folder;
  format::write(folder.path() / "model.bst", digits_network());
  data::write_npy(folder.path() / "image.npy", {1, 8, 8}, std::vector<float>(64));
  const std::string model = folder / "model.bst";
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"--version"},
                                             {"eval", model, "--data", "digits"},
                                             {"run", model, folder / "image.npy"},
                                             {"bench", model},
                                             {"inspect", model, "--explain"},
                                             {"export", model, "--format", "qdq", "--out", folder / "model.onnx"},
                                             {"profile", model, "--quick"}}) {
    const std::string loaded = loaded_libraries(folder, arguments);
    EXPECT_THAT(loaded, ::testing::Not(HasSubstr("libtorch"))) << ::testing::PrintToString(arguments);
    EXPECT_THAT(loaded, ::testing::Not(HasSubstr("libc10"))) << ::testing::PrintToString(arguments);
  }
}

TEST(CliLight, SaysWhereTheTrainingProgramShouldBe) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "bin");
  const auto copy = folder.path() / "bin" / "bitstrata";
  std::filesystem::copy_file(executable(), copy);
  const Finished finished = run_process(copy, {"compress", "model.onnx"});
  expect_one_line_error(finished, 3);
  EXPECT_THAT(finished.err, HasSubstr(folder / "libexec/bitstrata/bitstrata-train"));
  EXPECT_THAT(finished.err, HasSubstr(folder / "bin/bitstrata-train"));
}

TEST(CliLight, HandsArgumentsToTheTrainingProgramUnchanged) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "bin");
  std::filesystem::create_directories(folder.path() / "libexec" / "bitstrata");
  std::filesystem::copy_file(executable(), folder.path() / "bin" / "bitstrata");
  std::filesystem::create_symlink(folder.path() / "bin" / "bitstrata", folder.path() / "link");
  const auto program = folder.path() / "libexec" / "bitstrata" / "bitstrata-train";
  write_file_atomically(program, std::string_view("#!/bin/sh\nprintf '<%s>' \"$@\"\nexit 7\n"));
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  const Finished finished = run_process(folder.path() / "link", {"compress", "a b", "", "--help"});
  EXPECT_EQ(finished.status, 7) << finished.err;
  EXPECT_EQ(finished.out, "<compress><a b><><--help>");
}

}  // namespace
}  // namespace bitstrata::testing
