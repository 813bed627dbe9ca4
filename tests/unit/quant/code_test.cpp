#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "quant/code_type.h"

namespace bitstrata::quant {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::Pointwise;

const std::vector<float> kActivations = {-0.3f, 0.0f, 0.4f, 1.1f, 2.6f, 9.0f};

std::vector<int> codes(const CodeType& type) {
  std::vector<int> result;
  for (float x : kActivations) result.push_back(quantize(x, type));
  return result;
}

std::vector<float> values(const CodeType& type) {
  std::vector<float> result;
  for (float x : kActivations) result.push_back(dequantize(quantize(x, type), type));
  return result;
}

TEST(CodeType, MatchesGoldenVectorsOfPact) {
  EXPECT_THAT(codes({2, 0, 2.0f / 3}), ElementsAre(0, 0, 1, 2, 3, 3));
  EXPECT_THAT(values({2, 0, 2.0f / 3}),
              Pointwise(FloatNear(1e-6f), std::vector{0.0f, 0.0f, .666667f, 1.333333f, 2.0f, 2.0f}));
  EXPECT_THAT(codes({4, 0, 2.0f / 15}), ElementsAre(0, 0, 3, 8, 15, 15));
  EXPECT_THAT(values({4, 0, 2.0f / 15}),
              Pointwise(FloatNear(1e-6f), std::vector{0.0f, 0.0f, .4f, 1.066667f, 2.0f, 2.0f}));
}

TEST(CodeType, MatchesTheTableForLsqAndDorefa) {
  // clip(R(x / s), 0, 2^b - 1) with s = 0.4; R((2^b - 1) clip(x, 0, 1)).
  EXPECT_THAT(codes({3, 0, 0.4f}), ElementsAre(0, 0, 1, 3, 6, 7));
  EXPECT_THAT(codes({3, 0, 1.0f / 7}), ElementsAre(0, 0, 3, 7, 7, 7));
}

TEST(CodeType, EveryCodeOfEveryTypeSurvivesDequantizeAndQuantize) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (int zero = 0; zero > -(1 << bits); --zero) {
      for (float scale : {0.037f, 1.0f, 3.3e-5f, 711.0f}) {
        const CodeType type{bits, zero, scale};
        for (int v = 0; v < type.levels(); ++v) {
          ASSERT_EQ(quantize(dequantize(static_cast<uint8_t>(v), type), type), v)
              << bits << " " << zero << " " << scale;
        }
        ASSERT_EQ(quantize(0.0f, type), type.zero_code());
      }
    }
  }
}

TEST(CodeType, TiesGoToEven) {
  const CodeType type{4, -8, 0.5f};
  const auto value = [&](float x) { return dequantize(quantize(x, type), type); };
  EXPECT_EQ(value(0.25f), 0.0f);
  EXPECT_EQ(value(0.75f), 1.0f);
  EXPECT_EQ(value(1.25f), 1.0f);
  EXPECT_EQ(value(-0.25f), 0.0f);
  EXPECT_EQ(value(-0.75f), -1.0f);
  EXPECT_EQ(value(std::nextafter(0.25f, 1.0f)), 0.5f);
}

TEST(CodeType, ClampsAndStoresTheLowestCodeForNan) {
  const CodeType type{3, -2, 0.1f};
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(quantize(1e30f, type), 7);
  EXPECT_EQ(quantize(kInf, type), 7);
  EXPECT_EQ(quantize(-1e30f, type), 0);
  EXPECT_EQ(quantize(-kInf, type), 0);
  EXPECT_EQ(quantize(std::numeric_limits<float>::quiet_NaN(), type), 0);
  EXPECT_EQ(quantize(-0.0f, type), 2);
}

TEST(CodeType, MultipliesWithTheRoundedReciprocal) {
  // x / s and x * (1 / s) round to different integers here; docs/arithmetic.md asks for the latter.
  int differences = 0;
  for (int hundredths = 1; hundredths < 100; ++hundredths) {
    const CodeType type{8, 0, 0.01f * static_cast<float>(hundredths)};
    for (int k = 0; k < 250; ++k) {
      const float x = (static_cast<float>(k) + 0.5f) * type.scale,
                  r = std::nearbyintf(x * (1.0f / type.scale));
      ASSERT_EQ(quantize(x, type), static_cast<int>(r));
      differences += r != std::nearbyintf(x / type.scale);
    }
  }
  EXPECT_GT(differences, 0);
}

}  // namespace
}  // namespace bitstrata::quant
