#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/onednn_cap.h"
#include "tests/unit/kernels/support.h"

namespace bitstrata::kernels::test {
namespace {

const program::Window k3x3{3, 3, 1, 1, 1, 1, 1, 1, 1, 1};

// 2x2 image of one channel, codes 0 1 / 2 3 with zero point -1: values -1 0 / 1 2. Weights 1 2 3 / 4 5 6 / 7
// 8 9 minus 8.
TEST(Reference, MatchesAWorkedExample) {
  const ConvProblem p = make_problem(1, 2, 2, 1, k3x3, 1, 4, 2, Grid::kTwosComplement, -1);
  const std::vector<uint8_t> weights = {1, 2, 3, 4, 5, 6, 7, 8, 9}, src = {0, 1, 2, 3};
  const auto kernel = conv_kernels().back().make(p, weights, Isa::kScalar);
  // Weights become -7 -6 -5 / -4 -3 -2 / -1 0 1, so that the top left output is -1*-3 + 0*-2 + 1*0 + 2*1.
  EXPECT_EQ(run_guarded(*kernel, p, src, 1, 1), (std::vector<int32_t>{5, 3, -1, -3}));
}

TEST(Validate, RefusesWhatMakesNoSense) {
  const ConvProblem good = make_problem(8, 6, 6, 8, k3x3, 1, 4, 4);
  EXPECT_NO_THROW(validate(good));
  const auto refused = [&](auto change) {
    ConvProblem p = good;
    change(p);
    try {
      validate(p);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kInvalidArgument || error.code() == ErrorCode::kUnsupported;
    }
    return false;
  };
  EXPECT_TRUE(refused([](auto& p) { p.ic = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.groups = 3; }));
  EXPECT_TRUE(refused([](auto& p) { p.w_bits = 9; }));
  EXPECT_TRUE(refused([](auto& p) { p.a_bits = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.a_zero = 1; }));
  EXPECT_TRUE(refused([](auto& p) { p.a_zero = -16; }));
  EXPECT_TRUE(refused([](auto& p) { p.oh = 7; }));
  EXPECT_TRUE(refused([](auto& p) { p.window.stride_h = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.window.pad_left = -1; }));
  EXPECT_TRUE(refused([](auto& p) { p.grid = {3, -5}; }));
  EXPECT_TRUE(refused([](auto& p) { p.max_batch = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.ih = p.iw = p.oh = p.ow = 1 << 30; }));
  EXPECT_TRUE(refused([](auto& p) { p = make_problem(40000, 1, 1, 8, {}, 1, 8, 8); }));
}

TEST(Select, HonoursCapAndFamily) {
  const ConvProblem p = make_problem(64, 8, 8, 64, k3x3, 1, 1, 1);
  EXPECT_EQ(select_conv(p, Isa::kScalar).name, "conv_bitplane__scalar");
  cap_onednn(best_isa());
  for (Isa isa : available_isas()) EXPECT_LE(select_conv(p, isa).isa, isa);
  const Family reference = Family::kReference;
  EXPECT_EQ(select_conv(p, best_isa(), &reference).name, "conv_reference__scalar");
  const Family direct = Family::kDirect;  // depthwise only
  try {
    select_conv(p, Isa::kScalar, &direct);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("capped at scalar"), std::string::npos);
  }
}

TEST(Select, ExplainsEveryEntry) {
  const ConvProblem p = make_problem(64, 8, 8, 64, k3x3, 1, 2, 2);
  const auto verdicts = explain_conv(p, best_isa());
  ASSERT_EQ(verdicts.size(), conv_kernels().size());
  int chosen = 0;
  for (const Verdict& verdict : verdicts) {
    chosen += verdict.chosen;
    EXPECT_EQ(verdict.chosen, verdict.reason.empty());
    EXPECT_TRUE(!verdict.chosen || verdict.entry == &select_conv(p, best_isa()));
  }
  EXPECT_EQ(chosen, 1);
}

}  // namespace
}  // namespace bitstrata::kernels::test
