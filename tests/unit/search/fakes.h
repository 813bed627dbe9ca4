#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "search/archive.h"
#include "search/evaluator.h"
#include "search/method.h"

/// Tables that stand in for a network, and runs of methods on them.
namespace bitstrata::search {

/// Layers of 1000, 2000, ... weights and 50000 MACs less for each, all at the same candidates.
inline Space make_test_space(size_t layers, const std::vector<int>& bits, bool tied = true) {
  Space space;
  space.tied = tied;
  for (size_t l = 0; l < layers; ++l) {
    Layer layer;
    layer.name = "layer" + std::to_string(l);
    layer.weights = 1000 * static_cast<int64_t>(l + 1);
    layer.macs = 50000 * static_cast<int64_t>(layers - l);
    layer.inputs = 100;
    layer.weight_bits = bits;
    layer.activation_bits = bits;
    space.layers.push_back(layer);
  }
  return space;
}

inline void limit_average_bits(Space& space, double bits) {
  double weights = 0;
  for (const Layer& layer : space.layers) weights += static_cast<double>(layer.weights);
  space.limits.push_back({CostKind::kWeightBits, bits * weights, "avg-bits"});
}

inline std::string text_of(const Assignment& plan) {
  std::string text;
  for (const BitPair bits : plan)
    text += std::to_string(bits.weight) + "x" + std::to_string(bits.activation) + " ";
  return text;
}

inline std::string text_of(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%a ", value);
  return text;
}

/// Common part: a count of training steps is the whole state, and every call is written down in `calls`.
template <typename Interface>
class TableNetwork : public Interface {
 public:
  explicit TableNetwork(std::vector<std::string>& calls) : calls_(&calls) {}
  std::string save() const override { return std::to_string(steps_); }
  void restore(const std::string& state) override { steps_ = std::stoll(state); }
  Score evaluate(const Assignment& plan) override {
    note("evaluate " + text_of(plan));
    return score(plan);
  }
  Score float_score() override { return {float_accuracy, 0.1}; }

  double float_accuracy = 0.9;

 protected:
  virtual Score score(const Assignment& plan) = 0;
  void note(const std::string& call) { calls_->push_back(call); }
  /// In [0, 1), different after every training step.
  double mood() const { return std::fmod(static_cast<double>(steps_) * 0.6180339887, 1.0); }
  int64_t steps_ = 0;

 private:
  std::vector<std::string>* calls_;
};

/// Steps at most, so that a method that never ends fails its test.
inline constexpr int kMostSteps = 200000;

inline void run_to_end(Method& method, Archive& archive) {
  for (int i = 0; i < kMostSteps && !method.finished(); ++i) method.step(archive);
  ASSERT_TRUE(method.finished()) << method.status().text;
}

/// What a run leaves behind.
struct Trace {
  std::string archive, method;
  std::vector<std::string> calls;
  bool operator==(const Trace&) const = default;
};

/// Runs to the end, undisturbed or with method, network and archive replaced by restored ones after every
/// step. `make_network(calls)` and `make_method(network)` return unique_ptrs.
template <typename MakeNetwork, typename MakeMethod>
Trace trace(const Space& space, bool interrupted, MakeNetwork make_network, MakeMethod make_method) {
  Trace result;
  auto network = make_network(result.calls);
  auto method = make_method(*network);
  auto archive = std::make_unique<Archive>(space);
  for (int i = 0; i < kMostSteps && !method->finished(); ++i) {
    method->step(*archive);
    if (!interrupted) continue;
    auto next_network = make_network(result.calls);
    next_network->restore(network->save());
    auto next_method = make_method(*next_network);
    next_method->restore(method->save());
    EXPECT_EQ(next_method->save(), method->save());
    EXPECT_EQ(next_method->status().text, method->status().text);
    auto next_archive = std::make_unique<Archive>(space);
    next_archive->from_text(archive->to_text());
    network = std::move(next_network);
    method = std::move(next_method);
    archive = std::move(next_archive);
  }
  EXPECT_TRUE(method->finished());
  result.archive = archive->to_text();
  result.method = method->save();
  return result;
}

template <typename MakeNetwork, typename MakeMethod>
void expect_resumable(const Space& space, MakeNetwork make_network, MakeMethod make_method) {
  const Trace whole = trace(space, false, make_network, make_method);
  const Trace pieces = trace(space, true, make_network, make_method);
  EXPECT_FALSE(whole.calls.empty());
  EXPECT_EQ(whole.archive, pieces.archive);
  EXPECT_EQ(whole.calls, pieces.calls);
  EXPECT_EQ(whole.method, pieces.method);
}

/// Shortened states and states with a number or name changed must be refused as corrupt, or be states that
/// the method can save again.
inline void expect_refuses_damage(Method& method) {
  const std::string state = method.save();
  const auto try_restore = [&](const std::string& damaged) {
    try {
      method.restore(damaged);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile) << damaged;
      EXPECT_NE(method.save(), "");
    }
  };
  for (size_t length = 0; length < state.size(); ++length) {
    EXPECT_THROW(method.restore(state.substr(0, length)), Error) << length;
    EXPECT_EQ(method.save(), state) << "a refused state left traces";
  }
  for (size_t i = 0; i < state.size(); ++i) {
    for (const char other : {'9', '-', '"', ']', 'x'}) {
      std::string damaged = state;
      damaged[i] = other;
      try_restore(damaged);
    }
  }
  try_restore(R"({"method": 3})");
  try_restore("[]");
  method.restore(state);
  EXPECT_EQ(method.save(), state);
}

}  // namespace bitstrata::search
