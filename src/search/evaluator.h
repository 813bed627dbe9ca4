#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "search/space.h"

/// What search methods ask of a network. Each interface is one ability, so that a table can stand in for the network in tests; the real ones
/// are in src/evaluators. Accuracies are in [0, 1]. None is thread-safe. Everything is deterministic given the seed of the implementation.
namespace bitstrata::search {

/// Figures on held-out data.
struct Score {
  double accuracy = 0;
  double loss = 0;  ///< mean cross-entropy
};

/// A state that can be saved between any two calls and restored to go on to the same results.
class Resumable {
 public:
  virtual ~Resumable() = default;
  virtual std::string save() const = 0;
  /// kCorruptFile or kBadInput when the text is not from save() of the same kind of object.
  virtual void restore(const std::string& state) = 0;
};

/// Measures plans on the held-out split, with the network as it stands (calibrated, or as trained so far).
class Evaluator : public Resumable {
 public:
  /// Whole held-out split, in the deployed arithmetic.
  virtual Score evaluate(const Assignment& assignment) = 0;
  /// Held-out score of the float network: what max_drop counts from.
  virtual Score float_score() = 0;
};

/// One layer moved to other bits.
struct Change {
  size_t layer = 0;
  BitPair bits;
};

/// For methods that train the network while they move it from plan to plan (ccq).
class TrainableEvaluator : public Evaluator {
 public:
  /// Scores of `base` with one layer changed, one per change in the same order, on the probe part of the held-out split (fixed by the seed). The
  /// activations before the changed layer are shared between probes.
  virtual std::vector<Score> probe(const Assignment& base, std::span<const Change> changes) = 0;
  /// One mini-batch of quantization-aware training at these bits; returns its loss. Bits may change from call to call: ranges carry over.
  virtual double train_step(const Assignment& assignment, double learning_rate) = 0;
  virtual int64_t steps_per_epoch() const = 0;
};

/// Shares of the candidates: weight[layer][i] belongs to layers[layer].weight_bits[i], activation likewise; each row sums to 1.
struct Mixture {
  std::vector<std::vector<double>> weight, activation;
};

/// Derivatives of the loss by the shares of a Mixture, and the loss.
struct MixtureGradient {
  Mixture by_share;
  double loss = 0;
};

/// For methods that train one set of meta weights under a mixture of bit-widths (ebs).
class MixtureEvaluator : public Evaluator {
 public:
  /// One mini-batch of the weight half of the training data: trains weights and ranges under the mixture; returns the loss.
  virtual double train_weights(const Mixture& mixture, double learning_rate) = 0;
  /// One mini-batch of the strength half: the loss and its derivatives, weights untouched.
  virtual MixtureGradient share_gradient(const Mixture& mixture) = 0;
  virtual int64_t steps_per_epoch() const = 0;
};

/// Multipliers of the constraints, or the constraints' values: the output's, and one per layer of the space.
struct Constraints {
  double output = 0;
  std::vector<double> layers;
};

/// For the constrained problem of PDQAT (pdq): minimise the float loss subject to proximity of the quantized network at `assignment`.
class ConstrainedEvaluator : public Evaluator {
 public:
  /// One mini-batch of the Lagrangian with these multipliers; returns the float network's loss.
  virtual double lagrangian_step(const Assignment& assignment, const Constraints& multipliers, double learning_rate) = 0;
  /// Mean proximities (not yet minus epsilon) over a fixed part of the training data: soft cross-entropy of the outputs; mean squared distance of
  /// each layer's output, activations in units of their range.
  virtual Constraints proximities(const Assignment& assignment) = 0;
  virtual int64_t steps_per_epoch() const = 0;
};

/// Tables of predicted damage of one layer alone (hawq, sqnr, eagl).
class SensitivityEvaluator : public Evaluator {
 public:
  /// Squared L2 distance between a layer's float and quantized weights.
  virtual double weight_error(size_t layer, int bits) = 0;
  /// Mean Hutchinson estimate of the trace of the loss Hessian of a layer's weights, divided by the number of weights (methods.md sheet 21).
  virtual double hessian_trace(size_t layer) = 0;
  /// A piece of the work on the traces of all layers, seconds long. True once hessian_trace answers at once.
  virtual bool refine_traces() = 0;
  /// Signal to quantization noise in dB at the network's output, the rest of the network float (sheet 27).
  virtual double output_sqnr(size_t layer, BitPair bits) = 0;
  /// Entropy in bits of a layer's weight codes (sheet 25).
  virtual double code_entropy(size_t layer, int bits) = 0;
};

}  // namespace bitstrata::search
