#include <gtest/gtest.h>

#include <bitstrata/bitstrata.hpp>
#include <fstream>
#include <thread>

// libbitstrata.so as its users see it: nothing of its inside is linked here.
namespace {

const std::string kFolder = BITSTRATA_EMBED_FOLDER;

std::vector<char> read_bytes(const std::string& name) {
  std::ifstream file(kFolder + name, std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_FALSE(bytes.empty()) << name;
  return bytes;
}

std::vector<float> read_image() {
  const std::vector<char> bytes = read_bytes("image.f32");
  std::vector<float> values(bytes.size() / sizeof(float));
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(values.data()));
  return values;
}

std::vector<float> expected_scores() {
  std::ifstream file(kFolder + "expected.txt");
  std::vector<float> scores;
  size_t index = 0;
  for (float score = 0; file >> index >> score;) scores.push_back(score);
  return scores;
}

bitstrata::Model load(const bitstrata::Options& options = {}) {
  return bitstrata::Model::load(kFolder + "model.bst", options);
}

TEST(Embed, RunsANetworkWithTheLibraryAlone) {
  bitstrata::Session session(load());
  EXPECT_EQ(session.run(1, read_image()), std::vector<std::vector<float>>{expected_scores()});
}

TEST(Embed, ABatchFromMemoryGivesTheSame) {
  const std::vector<char> bytes = read_bytes("model.bst");
  bitstrata::Options options;
  options.max_batch = 2;
  options.threads = 2;
  bitstrata::Session session(bitstrata::Model::load(std::as_bytes(std::span(bytes)), options));
  std::vector<float> images = read_image(), expected = expected_scores();
  images.resize(128, 0.5f);
  const std::vector<float> scores = session.run(2, images).at(0);
  ASSERT_EQ(scores.size(), 20u);
  EXPECT_EQ(std::vector(scores.begin(), scores.begin() + 10), expected);
}

TEST(Embed, QueriesTellWhatTheNetworkIs) {
  const bitstrata::Model model = load();
  EXPECT_EQ(model.input().dims, (std::vector<int64_t>{1, 8, 8}));
  EXPECT_EQ(model.output().element_count, 10u);
  EXPECT_EQ(model.class_name(7), "seven");
  EXPECT_EQ(model.normalization().mean, std::vector{0.5f});
  const bitstrata::Layer conv = model.layer(1);
  EXPECT_EQ(conv.op, "conv");
  EXPECT_EQ(conv.weight_bits, 2);
  EXPECT_EQ(conv.activation_bits, 8);
  EXPECT_EQ(conv.macs, 6u * 36 * 9);
  EXPECT_EQ(conv.weight_bytes, 14u);
  EXPECT_EQ(model.info().weight_bytes, 14u + 810);
  EXPECT_NE(conv.kernel, "-");
}

TEST(Embed, FailuresAreExceptionsWithCodes) {
  const auto code_of = [](auto&& call) {
    try {
      call();
    } catch (const bitstrata::Error& error) {
      EXPECT_STRNE(error.what(), "");
      return error.code();
    }
    return BITSTRATA_OK;
  };
  EXPECT_EQ(code_of([] { bitstrata::Model::load(kFolder + "none.bst"); }), BITSTRATA_IO);
  EXPECT_EQ(code_of([] { bitstrata::Model::load(std::span<const std::byte>()); }),
            BITSTRATA_INVALID_ARGUMENT);
  EXPECT_EQ(code_of([] { load().class_name(10); }), BITSTRATA_NOT_FOUND);
  EXPECT_EQ(code_of([] { load({.kernels = "magic"}); }),
            BITSTRATA_INVALID_ARGUMENT);
  EXPECT_EQ(code_of([] { bitstrata::Session(load()).run(1, std::vector<float>(3)); }), BITSTRATA_BAD_INPUT);
}

TEST(Embed, ThreadsRunTheirOwnSessionsOfOneModel) {
  const bitstrata::Model model = load();
  const std::vector<float> image = read_image(), expected = expected_scores();
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      bitstrata::Session session(model);
      for (int i = 0; i < 50; ++i) EXPECT_EQ(session.run(1, image).at(0), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
