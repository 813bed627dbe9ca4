#include <gmock/gmock.h>

#include "core/file.h"
#include "data/npy.h"
#include "format/bst.h"
#include "tests/cli/network.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

class CliBadInput : public ::testing::Test {
 protected:
  CliBadInput() : network_(digits_network()), model_(folder_ / "model.bst") {
    format::write(model_, network_);
    data::write_npy(folder_.path() / "image.npy", {1, 8, 8}, std::vector<float>(64));
  }

  /// Writes a file and returns its path.
  std::string file(const std::string& name, std::span<const uint8_t> bytes) {
    write_file_atomically(folder_.path() / name, bytes);
    return folder_ / name;
  }
  std::string changed(const std::string& name, void (*change)(program::Program&)) {
    program::Program network = network_;
    change(network);
    format::write(folder_.path() / name, network);
    return folder_ / name;
  }

  TemporaryFolder folder_;
  program::Program network_;
  std::string model_;
};

TEST_F(CliBadInput, NetworksThatAreNone) {
  const auto bytes = read_file(model_, 1 << 20);
  auto flipped = bytes;
  flipped[bytes.size() / 2] ^= 1;
  const std::vector<uint8_t> text = {'h', 'e', 'l', 'l', 'o'};
  std::filesystem::create_directory(folder_.path() / "folder.bst");
  const std::vector<std::string> bad = {
      folder_ / "missing.bst",
      folder_ / "missing.onnx",
      folder_ / "folder.bst",
      file("empty.bst", {}),
      file("empty.onnx", {}),
      file("short.bst", std::span(bytes).first(10)),
      file("truncated.bst", std::span(bytes).first(bytes.size() - 1)),
      file("flipped.bst", flipped),
      file("text.bst", text),
      file("text.onnx", text),
      file("without-extension", text),
  };
  for (const std::string& path : bad) {
    SCOPED_TRACE(path);
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"eval", path, "--data", "digits"},
                                               {"run", path, folder_ / "image.npy"},
                                               {"bench", path},
                                               {"inspect", path, "--json"}}) {
      const Finished finished = bitstrata(arguments);
      expect_one_line_error(finished, 3);
      EXPECT_THAT(finished.err, ::testing::HasSubstr(std::filesystem::path(path).filename().string()));
    }
  }
}

TEST_F(CliBadInput, DataThatIsNone) {
  std::filesystem::create_directories(folder_.path() / "empty" / "test");
  for (const std::string& data :
       {folder_ / "digits", std::string("folder:") + (folder_ / "missing"), "folder:" + (folder_ / "empty"),
        "cifar10:" + (folder_ / "empty"), "idx:" + (folder_ / "empty"), "npy:" + (folder_ / "empty")}) {
    SCOPED_TRACE(data);
    const Finished finished = bitstrata({"eval", model_, "--data", data});
    expect_one_line_error(finished, data.find(':') == std::string::npos ? 2 : 3);
  }
}

TEST_F(CliBadInput, DataThatDoesNotFitTheNetwork) {
  const std::string renamed = changed("renamed.bst", [](program::Program& p) { p.class_names[3] = "three"; });
  const Finished names = bitstrata({"eval", renamed, "--data", "digits"});
  expect_one_line_error(names, 3);
  EXPECT_THAT(names.err, ::testing::HasSubstr("class 3 is '3' in digits, but 'three' in the network"));

  std::filesystem::create_directory(folder_.path() / "npy");
  const auto write_split = [&](const std::vector<int64_t>& shape, size_t elems) {
    data::write_npy(folder_.path() / "npy" / "test_x.npy", shape, std::vector<float>(elems));
    data::NpyArray labels{'u', 1, {shape[0]}, std::vector<uint8_t>(static_cast<size_t>(shape[0]))};
    write_file_atomically(folder_.path() / "npy" / "test_y.npy", data::serialize_npy(labels));
  };
  const std::string data = "npy:" + (folder_ / "npy");
  write_split({2, 1, 9, 8}, 144);
  const Finished extent = bitstrata({"eval", model_, "--data", data});
  expect_one_line_error(extent, 3);
  EXPECT_THAT(extent.err, ::testing::HasSubstr("1x9x8"));
  EXPECT_THAT(extent.err, ::testing::HasSubstr("1x8x8"));

  write_split({2, 1, 8, 8}, 128);
  EXPECT_EQ(bitstrata({"eval", model_, "--data", data}).status, 0)
      << "numbered classes may be fewer than outputs";
  std::ignore = file("npy/classes.txt", std::vector<uint8_t>{'a', '\n', 'b', '\n'});
  const Finished count = bitstrata({"eval", model_, "--data", data});
  expect_one_line_error(count, 3);
  EXPECT_THAT(count.err, ::testing::HasSubstr("2 classes"));
}

TEST_F(CliBadInput, NormalisationThatDoesNotFit) {
  expect_one_line_error(bitstrata({"eval", model_, "--data", "digits", "--mean", "0.5", "0.5", "0.5"}), 2);
  expect_one_line_error(bitstrata({"eval", model_, "--data", "digits", "--std", "0"}), 2);
}

TEST_F(CliBadInput, InputsThatAreNone) {
  data::write_npy(folder_.path() / "wide.npy", {1, 8, 9}, std::vector<float>(72));
  const auto good = read_file(folder_.path() / "image.npy", 1 << 20);
  const std::vector<std::string> bad = {folder_ / "missing.png",
                                        folder_.path().string(),
                                        folder_ / "wide.npy",
                                        file("short.npy", std::span(good).first(good.size() - 4)),
                                        file("text.png", std::vector<uint8_t>{'t', 'e', 'x', 't'}),
                                        file("empty.jpg", {})};
  for (const std::string& path : bad) {
    SCOPED_TRACE(path);
    expect_one_line_error(bitstrata({"run", model_, folder_ / "image.npy", path}), 3);
  }
}

TEST_F(CliBadInput, NetworksThatCannotClassifyImages) {
  const std::string two_outputs =
      changed("two.bst", [](program::Program& p) { p.outputs.push_back(p.ops[2].outputs[0]); });
  expect_one_line_error(bitstrata({"eval", two_outputs, "--data", "digits"}), 3);
  EXPECT_EQ(bitstrata({"inspect", two_outputs}).status, 0);
  EXPECT_EQ(bitstrata({"bench", two_outputs}).status, 0);
}

TEST_F(CliBadInput, FullStandardOutput) {
  ASSERT_TRUE(std::filesystem::is_character_file("/dev/full")) << "the machine's device is damaged";
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"--help"}, {"--version"}, {"inspect", model_}, {"inspect", model_, "--json"}}) {
    const Finished finished = bitstrata(arguments, {}, "/dev/full");
    EXPECT_EQ(finished.status, 3);
    EXPECT_THAT(finished.err, ::testing::StartsWith("bitstrata: error: standard output cannot be written"));
  }
}

TEST_F(CliBadInput, InstructionSetThatIsMissingHere) {
  const Finished finished = bitstrata({
    "inspect", model_, "--isa",
#if defined(__x86_64__)
        "neon"
#else
        "avx2"
#endif
  });
  expect_one_line_error(finished, 3);
}

}  // namespace
}  // namespace bitstrata::testing
