#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/batches.h"
#include "data/dataset.h"
#include "train/batch_source.h"
#include "train/distillation.h"
#include "train/network.h"
#include "train/torch.h"

namespace bitstrata::train {

enum class Optimizer { kSgd, kAdam };
Optimizer parse_optimizer(std::string_view name);
const char* to_string(Optimizer optimizer) noexcept;

/// Everything that decides the result of training, with defaults for fine-tuning.
struct TrainOptions {
  int epochs = 3;
  int batch = 128;
  uint64_t seed = 0;
  Optimizer optimizer = Optimizer::kSgd;
  double learning_rate = 0.02;
  double momentum = 0.9;
  double weight_decay = 1e-4;
  double scale_rate =
      0.01;  ///< learning rate of the logarithms of quantizer scales (Adam), on the same schedule
  double warmup_epochs = 0.25;  ///< the rate rises linearly from 0
  double restart_epochs =
      0;  ///< length of the first cosine cycle; 0: one cycle over all epochs (SGDR, methods.md sheet 33)
  double restart_factor = 1;  ///< each further cycle is this much longer
  double label_smoothing = 0;
  double clip_norm = 5;       ///< largest gradient norm; 0: unlimited
  double distill_weight = 0;  ///< share of the loss that is cross-entropy with the teacher's probabilities
  double distill_temperature = 2;
  double layer_weight = 0;   ///< weight of the relative squared distance from the teacher's values, layer by
                             ///< layer, added to the loss
  double average_share = 0;  ///< the result is the mean of the parameters over this last share of all steps
                             ///< (Izmailov et al. 2018)
  std::optional<data::Augmentation> augmentation;  ///< empty: the data set's default

  /// Whether the loss follows a float network; without one such a loss is that of the labels alone.
  bool follows_teacher() const noexcept { return distill_weight > 0 || layer_weight > 0; }
};

/// Learning rate at `epoch` (fractional), by warm-up and cosine annealing with warm restarts.
double learning_rate_at(const TrainOptions& options, double epoch);

/// An optimizer of the weights (with decay) and the others (without) at the options' rate; scales are left
/// out. kBadInput when there are none.
std::unique_ptr<torch::optim::Optimizer> make_optimizer(const ParameterGroups& groups,
                                                        const TrainOptions& options);
void set_learning_rate(torch::optim::Optimizer& optimizer, double rate);
/// Scales the gradients of all its parameters down to a common norm of at most `norm`; 0: leaves them alone.
void clip_gradients(const torch::optim::Optimizer& optimizer, double norm);

/// Where a run stands, for progress displays and logs.
struct TrainStatus {
  int epoch = 0;     ///< running epoch, from 0
  int64_t step = 0;  ///< steps done in this epoch
  int64_t steps_per_epoch = 0;
  double loss = 0;      ///< mean over this epoch so far
  double accuracy = 0;  ///< on the training batches of this epoch so far, in [0, 1]
  double learning_rate = 0;
};

/// Trains a Network on a data set: shuffled, augmented mini-batches that depend on (seed, epoch) only, SGD or
/// Adam. The whole state can be saved between any two steps and restored to go on to the same result. Not
/// thread-safe.
class Trainer {
 public:
  /// train_indices: the samples of the training split to use. network and dataset must outlive the trainer.
  /// teacher: a float network over the same values, for distillation, or null.
  Trainer(Network& network, const data::Dataset& dataset, std::vector<int64_t> train_indices,
          const data::Normalization& normalization, TrainOptions options,
          std::shared_ptr<Network> teacher = nullptr);

  /// True when all epochs are done.
  bool finished() const noexcept { return epoch_ >= options_.epochs; }
  /// One mini-batch; returns its loss. kJobFailed when the loss is not finite: training diverged.
  double step() { return step(status().learning_rate); }
  /// The same at a learning rate that the caller schedules; the scales' rate follows in proportion.
  double step(double learning_rate);
  TrainStatus status() const;
  int64_t steps_per_epoch() const noexcept { return batches_.steps_per_epoch(); }
  /// Number of whole epochs done.
  int epochs_done() const noexcept { return epoch_; }
  /// True right after the last step of an epoch.
  bool at_epoch_start() const noexcept { return step_ == 0; }

  /// Gives the network the mean of its parameters over the last steps, where the options ask for one and a
  /// step of it was made. Batch-norm statistics are to be estimated again then. Call it once, at the end.
  void apply_average();

  /// The state as checkpoint payload, and back. restore: kCorruptFile or kBadInput when it does not fit this
  /// network and options.
  std::string save() const;
  void restore(const std::string& payload);

 private:
  torch::Tensor loss(const torch::Tensor& logits, const Batch& batch);
  void average();

  Network& network_;
  BatchSource batches_;
  TrainOptions options_;
  std::optional<Distillation> distillation_;
  std::vector<torch::Tensor> averages_;  ///< of parameters(), over averaged_ steps; empty: not asked for
  int64_t averaged_ = 0;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  std::unique_ptr<torch::optim::Optimizer> scale_optimizer_;  ///< null when no scale is learned
  int epoch_ = 0;
  int64_t step_ = 0;
  double loss_sum_ = 0;
  int64_t correct_ = 0, seen_ = 0;
};

/// Batches of normalised samples without augmentation: up to `count` training samples chosen by seed, for
/// calibration.
std::vector<torch::Tensor> calibration_batches(const data::Dataset& dataset,
                                               const std::vector<int64_t>& indices,
                                               const data::Normalization& normalization, int count, int batch,
                                               uint64_t seed);

/// Normalised samples without augmentation [n, C, H, W] and their labels [n], on the CPU.
std::pair<torch::Tensor, torch::Tensor> plain_batch(const data::BatchFiller& filler,
                                                    const data::Dataset& dataset,
                                                    std::span<const int64_t> indices);

/// What a network does on a set of samples.
struct Evaluation {
  double accuracy =
      0;  ///< share of samples whose largest logit is the label's, in [0, 1]; ties go to the lowest class
  double loss = 0;  ///< mean cross-entropy
};

/// Evaluates `logits`, which maps [n, C, H, W] to [n, classes], on the samples `indices` of a split.
/// kBadInput when there are none.
Evaluation evaluate(const std::function<torch::Tensor(const torch::Tensor&)>& logits,
                    const data::Dataset& dataset, data::Split split, const std::vector<int64_t>& indices,
                    const data::Normalization& normalization, int batch,
                    const std::function<void(int64_t done)>& on_progress = {});

/// Replaces the running batch-norm statistics by plain averages over `batches` with the quantizers in place.
void reestimate_batch_norms(Network& network, const std::vector<torch::Tensor>& batches);

}  // namespace bitstrata::train
