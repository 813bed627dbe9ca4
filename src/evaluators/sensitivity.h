#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "evaluators/setting.h"

namespace bitstrata::evaluators {

/// How accurately Sensitivities measures.
struct SensitivityOptions {
  int sqnr_images = 128;     ///< AIMET's default (methods.md sheet 27)
  int hessian_images = 512;  ///< the loss whose Hessian is taken is their mean cross-entropy
  int hessian_batch = 64;    ///< images whose graph of second derivatives is held at a time
  /// Random vectors at most. HAWQ takes up to 100; one costs about nine forward passes over hessian_images,
  /// and the error of a layer's trace falls with the square root of their number only.
  int max_draws = 50;
  /// Draws end when the means of all layers together (sum of magnitudes) change by less than this part.
  double tolerance = 1e-3;
};

/// Tables of what quantizing one layer alone does to the float network. Everything is measured once.
class Sensitivities : public search::SensitivityEvaluator {
 public:
  /// `measure` must outlive this. kInvalidArgument for counts < 1.
  explicit Sensitivities(const Measure& measure, SensitivityOptions options = {});

  /// Calibrated, batch norms estimated again, not trained.
  search::Score evaluate(const search::Assignment& assignment) override {
    return measure_.calibrated_score(assignment);
  }
  search::Score float_score() override { return measure_.float_score(); }

  double weight_error(size_t layer, int bits) override { return weights_at(layer, bits).squared_error; }
  double code_entropy(size_t layer, int bits) override { return weights_at(layer, bits).entropy_bits; }
  /// Mean over batches of 128 images of E[y^2] / (E[(y - y_q)^2] + 1e-4) of the logits, in dB.
  double output_sqnr(size_t layer, search::BitPair bits) override;
  /// The traces of all layers come from the same random vectors: v_l . (Hv)_l has the trace of layer l's
  /// block as its mean, since the signs of other layers are independent of v_l's. The first call measures
  /// them all. Hv by differentiating twice, running batch-norm statistics.
  double hessian_trace(size_t layer) override;
  /// One random vector.
  bool refine_traces() override;

  std::string save() const override;
  void restore(const std::string& state) override;

 private:
  struct WeightFigures {
    double squared_error = 0, entropy_bits = 0;
  };
  const WeightFigures& weights_at(size_t layer, int bits);
  const graph::Node& node_of(size_t layer) const;
  plan::Plan float_plan() const;
  std::string description() const;

  const Measure& measure_;
  SensitivityOptions options_;
  std::map<std::pair<size_t, int>, WeightFigures> weights_;
  std::map<std::pair<size_t, search::BitPair>, double> sqnr_;
  std::vector<torch::Tensor> images_, float_logits_;  ///< of the SQNR; empty before its first use
  // Traces: sums over `draws_` random vectors of v_l . (Hv)_l, one per layer.
  std::vector<double> trace_sums_;
  int draws_ = 0;
  bool traces_done_ = false;
};

}  // namespace bitstrata::evaluators
