#include "runtime/row_ops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "core/random.h"
#include "quant/code_type.h"

namespace bitstrata::runtime {
namespace {

/// Ties, zeros of both signs, denormals, infinities, NaN and random values of all sizes.
std::vector<float> awkward(size_t count, uint64_t seed) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> values = {0.0f,       -0.0f,       0.5f,    -0.5f, 1.5f,  2.5f,
                               -2.5f,      1e-42f,      -1e-42f, inf,   -inf,  std::nanf(""),
                               8388607.5f, -8388608.5f, 1e30f,   3e9f,  -3e9f, 0.49999997f};
  Random random(seed, 2);
  while (values.size() < count) {
    const double magnitude = std::exp2(40 * random.uniform() - 20);
    values.push_back(static_cast<float>((2 * random.uniform() - 1) * magnitude));
  }
  values.resize(count);
  return values;
}

void expect_same(const std::vector<float>& found, const std::vector<float>& expected, const char* what) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(found[i])) continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(found[i]), std::bit_cast<uint32_t>(expected[i])) << what << " at " << i;
  }
}

class RowOpsTest : public ::testing::TestWithParam<Isa> {};

TEST_P(RowOpsTest, EveryOperationRoundsAsDocumented) {
  const RowOps& ops = row_ops(GetParam());
  for (size_t count : {1, 7, 16, 18, 33, 100}) {
    const std::vector<float> x = awkward(count, count), t = awkward(count, count + 1000);
    const auto check = [&](const char* what, const auto& vector, const auto& scalar) {
      std::vector<float> found = x, expected = x;
      vector(found);
      for (size_t i = 0; i < count; ++i) expected[i] = scalar(expected[i], i);
      expect_same(found, expected, what);
    };
    const auto binary = [](size_t op, float y, float v) {
      switch (op) {
        case 0:
          return y + v;
        case 1:
          return y - v;
        case 2:
          return v - y;
        case 3:
          return y * v;
        default:
          return y / v;
      }
    };
    const auto clip = [](float y, float a, float b) { return y > a ? (y < b ? y : b) : a; };
    const quant::CodeType type{8, -100, 0.37f};
    std::vector<uint8_t> codes(count);
    for (size_t i = 0; i < count; ++i) codes[i] = static_cast<uint8_t>(i * 37);
    for (size_t op = 0; op < RowOps::kBinaryOps; ++op) {
      check(
          "vector", [&](auto& y) { ops.vector[op](y.data(), t.data(), count); },
          [&](float y, size_t i) { return binary(op, y, t[i]); });
      check(
          "scalar", [&](auto& y) { ops.scalar[op](y.data(), 0.3f, count); },
          [&](float y, size_t) { return binary(op, y, 0.3f); });
      check(
          "codes", [&](auto& y) { ops.codes[op](y.data(), codes.data(), type.zero, type.scale, count); },
          [&](float y, size_t i) { return binary(op, y, quant::dequantize(codes[i], type)); });
    }
    check(
        "load", [&](auto& y) { ops.load(codes.data(), type.zero, type.scale, y.data(), count); },
        [&](float, size_t i) { return quant::dequantize(codes[i], type); });
    check(
        "clip", [&](auto& y) { ops.clip(y.data(), -1.0f, 2.0f, count); },
        [&](float y, size_t) { return clip(y, -1, 2); });
    const float inf = std::numeric_limits<float>::infinity();
    check(
        "relu", [&](auto& y) { ops.clip(y.data(), 0.0f, inf, count); },
        [&](float y, size_t) { return clip(y, 0, inf); });
    check(
        "leaky", [&](auto& y) { ops.leaky_relu(y.data(), 0.3f, count); },
        [](float y, size_t) { return y >= 0 ? y : y * 0.3f; });
    check(
        "prelu", [&](auto& y) { ops.prelu(y.data(), t.data(), count); },
        [&](float y, size_t i) { return y >= 0 ? y : y * t[i]; });
    check(
        "hard sigmoid", [&](auto& y) { ops.hard_sigmoid(y.data(), 0.2f, 0.5f, count); },
        [&](float y, size_t) {
          float h = y * 0.2f;
          h = h + 0.5f;
          return clip(h, 0, 1);
        });
    check(
        "hard swish", [&](auto& y) { ops.hard_swish(y.data(), count); },
        [&](float y, size_t) {
          float h = y * 0.16666667f;
          h = h + 0.5f;
          return y * clip(h, 0, 1);
        });

    std::vector<std::vector<uint8_t>> rows(3, std::vector<uint8_t>(count));
    for (size_t k = 0; k < rows.size(); ++k) {
      for (size_t i = 0; i < count; ++i) rows[k][i] = static_cast<uint8_t>((i + 3 * k) * 91);
    }
    const uint8_t* sources[] = {rows[0].data(), rows[1].data(), rows[2].data()};
    for (int n : {1, 2, 3}) {
      std::vector<uint8_t> largest(count);
      ops.max_codes(sources, n, largest.data(), count);
      for (size_t i = 0; i < count; ++i) {
        uint8_t expected = 0;
        for (int k = 0; k < n; ++k) expected = std::max(expected, rows[static_cast<size_t>(k)][i]);
        ASSERT_EQ(largest[i], expected) << n << " " << i;
      }
    }

    std::vector<int32_t> acc(count);
    for (size_t i = 0; i < count; ++i) acc[i] = static_cast<int32_t>(0x7fffffff - 12345 * i * i);
    check(
        "convert", [&](auto& y) { ops.convert(acc.data(), y.data(), count); },
        [&](float, size_t i) { return static_cast<float>(acc[i]); });
    check(
        "scale", [&](auto& y) { ops.scale(acc.data(), x.data(), t.data(), y.data(), count); },
        [&](float, size_t i) {
          const float y = static_cast<float>(acc[i]) * x[i];
          return y + t[i];
        });

    for (const quant::CodeType& code :
         {quant::CodeType{8, 0, 0.1f}, quant::CodeType{8, -128, 1.0f}, quant::CodeType{1, -1, 3.0f},
          quant::CodeType{4, -15, 1e-3f}, quant::CodeType{2, 0, 1.0f}}) {
      std::vector<uint8_t> found(count);
      ops.store(x.data(), code.inverse_scale(), code.zero, code.max_code(), found.data(), count);
      for (size_t i = 0; i < count; ++i) ASSERT_EQ(found[i], quant::quantize(x[i], code)) << x[i];

      const quant::CodeType second{5, -3, 0.21f};
      std::vector<uint8_t> with_residual(count), beside(count), beside_residual(count);
      const auto requantize = [&](const Codes& residual, std::vector<uint8_t>& one,
                                  std::vector<uint8_t>* two) {
        const CodeStore stores[] = {
            {code.inverse_scale(), code.zero, code.max_code(), one.data()},
            {second.inverse_scale(), second.zero, second.max_code(), two ? two->data() : nullptr}};
        ops.requantize(acc.data(), x.data(), t.data(), residual, stores, two ? 2 : 1, count);
      };
      const Codes residual{codes.data(), type.zero, type.scale};
      requantize({}, found, nullptr);
      requantize(residual, with_residual, nullptr);
      std::vector<uint8_t> again(count), again_residual(count);
      requantize({}, again, &beside);
      requantize(residual, again_residual, &beside_residual);
      EXPECT_EQ(again, found);
      EXPECT_EQ(again_residual, with_residual);
      for (size_t i = 0; i < count; ++i) {
        float y = static_cast<float>(acc[i]) * x[i];
        y = y + t[i];
        ASSERT_EQ(found[i], quant::quantize(y, code)) << y;
        ASSERT_EQ(beside[i], quant::quantize(y, second)) << y;
        y = y + quant::dequantize(codes[i], type);
        ASSERT_EQ(with_residual[i], quant::quantize(y, code)) << y;
        ASSERT_EQ(beside_residual[i], quant::quantize(y, second)) << y;
      }
    }
  }
}

TEST_P(RowOpsTest, RunsOnTheInstructionSetAskedFor) {
  const std::string name = row_ops(GetParam()).name;
  switch (GetParam()) {
    case Isa::kScalar:
      EXPECT_TRUE(name == "SCALAR" || name == "EMU128" || name == "NEON") << name;
      break;
    case Isa::kNeon:
      EXPECT_EQ(name, "NEON");
      break;
    case Isa::kAvx2:
      EXPECT_EQ(name, "AVX2");
      break;
    default:
      EXPECT_EQ(name, "AVX3");
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, RowOpsTest, ::testing::ValuesIn(available_isas()),
                         [](const auto& isa) { return std::string(to_string(isa.param)); });

}  // namespace
}  // namespace bitstrata::runtime
