#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/unit/kernels/support.h"

namespace bitstrata::kernels::test {

/// Tests of the kernel that the parameter names; skipped where this machine lacks it.
class KernelTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    for (const KernelEntry& entry : conv_kernels()) {
      if (entry.name == GetParam()) entry_ = &entry;
    }
    ASSERT_NE(entry_, nullptr);
    const auto& isas = available_isas();
    if (std::find(isas.begin(), isas.end(), entry_->isa) == isas.end()) {
      GTEST_SKIP() << "this machine lacks " << to_string(entry_->isa);
    }
    try {
      cap_ = resolve_isa("");
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    const std::string reason = entry_->refuses(usual_problem(), cap_);
    if (!reason.empty()) GTEST_SKIP() << reason;
  }

  /// One that the kernel refuses only when this build or process lacks its code.
  virtual ConvProblem usual_problem() const {
    const int groups = entry_->family == Family::kDirect ? 16 : 1;
    return make_problem(16, 8, 8, 16, square(3, 1, 1), groups, 2, 2);
  }

  /// Compares with the reference; false when the kernel refuses the problem.
  bool check(const ConvProblem& p, const std::vector<uint8_t>& weights, const std::vector<uint8_t>& src,
             int n = 1, int threads = 1) {
    validate(p);
    if (!entry_->refuses(p, cap_).empty()) return false;
    const auto kernel = entry_->make(p, weights, cap_);
    const auto reference = conv_kernels().back().make(p, weights, Isa::kScalar);
    const auto expected = run_guarded(*reference, p, src, n, 1);
    const auto actual = run_guarded(*kernel, p, src, n, threads);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (expected[i] != actual[i]) {
        ADD_FAILURE() << entry_->name << " (" << kernel->implementation() << ") element " << i << ": "
                      << actual[i] << ", expected " << expected[i] << "\n"
                      << describe(p) << " n " << n << " threads " << threads;
        break;
      }
    }
    return true;
  }

  bool check_random(const ConvProblem& p, int n = 1, int threads = 1) {
    return check(p, random_codes(weight_count(p), p.w_bits, 1), random_codes(src_count(p, n), p.a_bits, 2), n,
                 threads);
  }

  bool is_narrow() const { return entry_->name.starts_with("conv_u8s8_narrow"); }
  bool is_winograd() const { return entry_->name.starts_with("conv_u8s8_winograd"); }
  /// The most bits that the family takes.
  bool takes_few_bits() const {
    return entry_->family == Family::kLookup || entry_->name == "conv_u8s8_winograd__vnni";
  }
  int max_w() const { return takes_few_bits() ? 4 : 8; }
  int max_a() const { return takes_few_bits() ? 6 : 8; }

  const KernelEntry* entry_ = nullptr;
  Isa cap_ = Isa::kScalar;
};

/// Names of the kernels for which wanted(entry).
template <class Wanted>
std::vector<const char*> kernel_names(const Wanted& wanted) {
  std::vector<const char*> names;
  for (const KernelEntry& entry : conv_kernels()) {
    if (wanted(entry)) names.push_back(entry.name.c_str());
  }
  return names;
}

inline std::string test_name(const testing::TestParamInfo<const char*>& info) {
  return info.param;
}

}  // namespace bitstrata::kernels::test
