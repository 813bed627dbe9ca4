#include "report_targets.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "plan/plan.h"

namespace bitstrata::cli {
namespace {

using plan::Target;

/// A limit may be met exactly; sums of floating-point figures then differ in the last bits.
constexpr double kTolerance = 1e-9;

struct Judgement {
  std::optional<double> value, limit;
  std::string unit;  ///< empty: points of accuracy lost
  bool at_least = false;
  double shown = 1;  ///< factor for display
  int digits = 2;
};

std::string points_text(double drop) {
  return fmt::format("{:.2f} points {} the float network on test images", std::abs(drop),
                     drop < 0 ? "above" : "below");
}

Judgement judge(const Target& target, const Reached& r, const graph::Graph* graph) {
  switch (target.kind) {
    case Target::Kind::kAvgBits:
      return {r.avg_weight_bits, target.value, " bits"};
    case Target::Kind::kSizeBytes:
      return {r.weight_bytes, target.value, " bytes", false, 1, 0};
    case Target::Kind::kCompression:
      return {r.compression, target.value, "x", true};
    case Target::Kind::kBitOps:
      return {r.bitops, target.value, " GBitOPs", false, 1e-9, 4};
    case Target::Kind::kUniformBitOps: {
      std::optional<double> limit;
      if (graph != nullptr) {
        const auto uniform = plan::uniform_plan(*graph, static_cast<int>(target.value),
                                                target.activation_bits, quant::Policy::kLsq, false);
        limit = plan::figures(*graph, uniform).bitops;
      }
      return {r.bitops, limit, " GBitOPs", false, 1e-9, 4};
    }
    case Target::Kind::kLatencyMs:
      return {r.latency_ms, target.value, " ms predicted", false, 1, 4};
    case Target::Kind::kLatencyRatio: {
      std::optional<double> ratio;
      if (r.latency_ms && r.full_latency_ms && *r.full_latency_ms > 0)
        ratio = *r.latency_ms / *r.full_latency_ms;
      return {ratio, target.value, "x of 8-bit, predicted", false, 1, 3};
    }
    case Target::Kind::kDrop: {
      std::optional<double> drop;
      if (r.accuracy && r.float_accuracy) drop = 100 * (*r.float_accuracy - *r.accuracy);
      return {drop, target.value, ""};
    }
  }
  return {};
}

}  // namespace

nlohmann::ordered_json judge_target(const std::string& text, const Reached& reached,
                                    const graph::Graph* graph) {
  const Judgement j = judge(plan::parse_target(text), reached, graph);
  nlohmann::ordered_json out{{"text", text}, {"reached", nullptr}, {"met", nullptr}};
  if (!j.value) return out;
  out["reached"] =
      j.unit.empty() ? points_text(*j.value) : fmt::format("{:.{}f}{}", j.shown * *j.value, j.digits, j.unit);
  if (j.limit) {
    const double slack = kTolerance * std::max(1.0, std::abs(*j.limit));
    out["met"] = j.at_least ? *j.value >= *j.limit - slack : *j.value <= *j.limit + slack;
  }
  return out;
}

}  // namespace bitstrata::cli
