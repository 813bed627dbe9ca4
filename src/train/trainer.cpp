#include "train/trainer.h"

#include <cmath>
#include <sstream>

#include "core/error.h"

namespace bitstrata::train {
namespace {

using torch::Tensor;

/// Everything that a restored run must share with the saved one.
std::string fingerprint(const TrainOptions& o, const data::Augmentation& augmentation, const Network& network,
                        size_t samples) {
  std::string text = fmt::format(
      "{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {};", o.epochs, o.batch, o.seed,
      to_string(o.optimizer), o.learning_rate, o.momentum, o.weight_decay, o.scale_rate, o.warmup_epochs,
      o.restart_epochs, o.restart_factor, o.label_smoothing, o.clip_norm, o.distill_weight,
      o.distill_temperature, o.layer_weight, o.average_share, augmentation.pad, augmentation.flip, samples);
  for (const auto& layer : network.plan().layers) {
    text += fmt::format("{} {} {} {} {};", layer.name, layer.weight_bits, layer.activation_bits,
                        quant::to_string(layer.policy), layer.per_channel);
  }
  for (const auto& stream : network.plan().streams) text += fmt::format("{} {};", stream.value, stream.bits);
  return text;
}

std::vector<Tensor> parameters(const Network& network) {
  ParameterGroups groups = network.parameter_groups();
  std::vector<Tensor> all = std::move(groups.weights);
  all.insert(all.end(), groups.log_scales.begin(), groups.log_scales.end());
  all.insert(all.end(), groups.others.begin(), groups.others.end());
  return all;
}

/// Adam makes the steps of all scales alike, whatever the size of their gradients: these grow with the number
/// of values that share a scale.
std::unique_ptr<torch::optim::Optimizer> make_scale_optimizer(const Network& network,
                                                              const TrainOptions& options) {
  const std::vector<Tensor> scales = network.parameter_groups().log_scales;
  if (scales.empty()) return nullptr;
  return std::make_unique<torch::optim::Adam>(scales, torch::optim::AdamOptions(options.scale_rate));
}

std::vector<int64_t> batch_dims(const data::Dataset& dataset, size_t n) {
  const auto& shape = dataset.shape();
  return {static_cast<int64_t>(n), shape.channels, shape.height, shape.width};
}

std::span<float> floats_of(const Tensor& x) {
  return {x.data_ptr<float>(), static_cast<size_t>(x.numel())};
}

}  // namespace

Optimizer parse_optimizer(std::string_view name) {
  if (name == "sgd") return Optimizer::kSgd;
  if (name == "adam") return Optimizer::kAdam;
  fail(ErrorCode::kInvalidArgument, "unknown optimizer '{}': expected sgd or adam",
       printable(std::string(name)));
}

const char* to_string(Optimizer optimizer) noexcept {
  return optimizer == Optimizer::kSgd ? "sgd" : "adam";
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const ParameterGroups& groups,
                                                        const TrainOptions& options) {
  std::vector<torch::optim::OptimizerParamGroup> lists;
  const auto add = [&](const std::vector<Tensor>& parameters, double decay) {
    if (parameters.empty()) return;
    if (options.optimizer == Optimizer::kSgd) {
      lists.emplace_back(parameters, std::make_unique<torch::optim::SGDOptions>(
                                         torch::optim::SGDOptions(options.learning_rate)
                                             .momentum(options.momentum)
                                             .weight_decay(decay)));
    } else {
      lists.emplace_back(parameters,
                         std::make_unique<torch::optim::AdamOptions>(
                             torch::optim::AdamOptions(options.learning_rate).weight_decay(decay)));
    }
  };
  add(groups.weights, options.weight_decay);
  add(groups.others, 0);
  if (lists.empty()) fail(ErrorCode::kBadInput, "training: the network has no parameters");
  if (options.optimizer == Optimizer::kSgd)
    return std::make_unique<torch::optim::SGD>(lists, torch::optim::SGDOptions(options.learning_rate));
  return std::make_unique<torch::optim::Adam>(lists, torch::optim::AdamOptions(options.learning_rate));
}

void set_learning_rate(torch::optim::Optimizer& optimizer, double rate) {
  for (auto& group : optimizer.param_groups()) group.options().set_lr(rate);
}

void clip_gradients(const torch::optim::Optimizer& optimizer, double norm) {
  if (norm <= 0) return;
  std::vector<Tensor> parameters;
  for (const auto& group : optimizer.param_groups())
    parameters.insert(parameters.end(), group.params().begin(), group.params().end());
  torch::nn::utils::clip_grad_norm_(parameters, norm);
}

double learning_rate_at(const TrainOptions& options, double epoch) {
  if (epoch < options.warmup_epochs) return options.learning_rate * epoch / options.warmup_epochs;
  const double total = std::max(options.epochs - options.warmup_epochs, 1e-9);
  double position = epoch - options.warmup_epochs,
         length = options.restart_epochs > 0 ? options.restart_epochs : total;
  if (options.restart_epochs > 0 && options.restart_factor <= 1) position = std::fmod(position, length);
  while (options.restart_epochs > 0 && position >= length) {
    position -= length;
    length *= options.restart_factor;
  }
  return 0.5 * options.learning_rate * (1 + std::cos(M_PI * std::min(1.0, position / length)));
}

Trainer::Trainer(Network& network, const data::Dataset& dataset, std::vector<int64_t> train_indices,
                 const data::Normalization& normalization, TrainOptions options,
                 std::shared_ptr<Network> teacher)
    : network_(network),
      batches_(dataset, std::move(train_indices), normalization, options.augmentation, options.batch,
               options.seed),
      options_(std::move(options)),
      optimizer_(make_optimizer(network.parameter_groups(), options_)),
      scale_optimizer_(make_scale_optimizer(network, options_)) {
  options_.batch = batches_.batch();
  if (teacher && options_.follows_teacher())
    distillation_.emplace(network_, std::move(teacher), options_.layer_weight > 0);
  if (options_.average_share > 0) {
    for (const Tensor& parameter : parameters(network_))
      averages_.push_back(torch::zeros_like(parameter, torch::TensorOptions().requires_grad(false)));
  }
}

TrainStatus Trainer::status() const {
  const int64_t steps = steps_per_epoch();
  const double seen = static_cast<double>(std::max<int64_t>(1, seen_));
  return {epoch_,
          step_,
          steps,
          loss_sum_ / seen,
          static_cast<double>(correct_) / seen,
          learning_rate_at(options_, epoch_ + static_cast<double>(step_) / static_cast<double>(steps))};
}

Tensor Trainer::loss(const Tensor& logits, const Batch& batch) {
  namespace F = torch::nn::functional;
  const double weight = distillation_ ? options_.distill_weight : 0;
  Tensor total =
      (1 - weight) * F::cross_entropy(logits, batch.labels,
                                      F::CrossEntropyFuncOptions().label_smoothing(options_.label_smoothing));
  if (weight > 0) total = total + weight * distillation_->logits_loss(logits, options_.distill_temperature);
  if (distillation_ && options_.layer_weight > 0)
    total = total + options_.layer_weight * distillation_->layers_loss();
  if (const Tensor penalty = network_.clip_penalty(); penalty.defined())
    total = total + options_.weight_decay * penalty.sum();
  return total;
}

/// Takes the parameters after a step into the mean, where it is one of the last.
void Trainer::average() {
  const double steps = static_cast<double>(steps_per_epoch()) * options_.epochs,
               done = static_cast<double>(steps_per_epoch()) * epoch_ + static_cast<double>(step_ + 1);
  if (averages_.empty() || done <= (1 - options_.average_share) * steps) return;
  const torch::NoGradGuard no_grad;
  ++averaged_;
  const std::vector<Tensor> now = parameters(network_);
  for (size_t i = 0; i < now.size(); ++i)
    averages_[i] += (now[i] - averages_[i]) / static_cast<double>(averaged_);
}

void Trainer::apply_average() {
  if (averaged_ == 0) return;
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> now = parameters(network_);
  for (size_t i = 0; i < now.size(); ++i) now[i].copy_(averages_[i]);
}

double Trainer::step(double learning_rate) {
  if (step_ == 0) {
    loss_sum_ = 0;
    correct_ = seen_ = 0;
  }
  const Batch batch = batches_.at(epoch_, step_, network_.device());
  set_learning_rate(*optimizer_, learning_rate);
  if (scale_optimizer_) {
    set_learning_rate(*scale_optimizer_, options_.scale_rate * learning_rate / options_.learning_rate);
    scale_optimizer_->zero_grad();
  }
  network_.set_training(true);
  optimizer_->zero_grad();
  const Tensor logits = distillation_ ? distillation_->forward(batch.x) : network_.forward(batch.x);
  const Tensor total = loss(logits, batch);
  total.backward();
  clip_gradients(*optimizer_, options_.clip_norm);
  optimizer_->step();
  if (scale_optimizer_) scale_optimizer_->step();
  network_.constrain();
  network_.set_training(false);
  average();
  const double value = total.item<double>();
  if (!std::isfinite(value)) {
    fail(ErrorCode::kJobFailed, "training diverged: the loss is {} in epoch {}, step {}; lower --lr (now {})",
         value, epoch_ + 1, step_ + 1, options_.learning_rate);
  }
  loss_sum_ += value * options_.batch;
  correct_ += (logits.argmax(1) == batch.labels).sum().item<int64_t>();
  seen_ += options_.batch;
  if (++step_ == steps_per_epoch()) {
    step_ = 0;
    ++epoch_;
  }
  return value;
}

std::string Trainer::save() const {
  torch::serialize::OutputArchive archive;
  archive.write("fingerprint",
                c10::IValue(fingerprint(options_, batches_.augmentation(), network_, batches_.samples())));
  archive.write("epoch", c10::IValue(static_cast<int64_t>(epoch_)));
  archive.write("step", c10::IValue(step_));
  archive.write("loss_sum", c10::IValue(loss_sum_));
  archive.write("correct", c10::IValue(correct_));
  archive.write("seen", c10::IValue(seen_));
  torch::serialize::OutputArchive tensors;
  for (const auto& [name, value] : network_.state())
    tensors.write(name, value.detach().to(torch::kCPU).contiguous(), /*is_buffer=*/true);
  archive.write("tensors", tensors);
  torch::serialize::OutputArchive optimizer;
  optimizer_->save(optimizer);
  archive.write("optimizer", optimizer);
  if (scale_optimizer_) {
    torch::serialize::OutputArchive scales;
    scale_optimizer_->save(scales);
    archive.write("scale_optimizer", scales);
  }
  archive.write("averaged", c10::IValue(averaged_));
  for (size_t i = 0; i < averages_.size(); ++i)
    archive.write(fmt::format("average{}", i), averages_[i].to(torch::kCPU), /*is_buffer=*/true);
  std::ostringstream stream;
  archive.save_to(stream);
  return stream.str();
}

void Trainer::restore(const std::string& payload) {
  try {
    torch::serialize::InputArchive archive;
    std::istringstream stream(payload);
    archive.load_from(stream);
    const auto read = [&](const char* key) {
      c10::IValue value;
      archive.read(key, value);
      return value;
    };
    if (read("fingerprint").toStringRef() !=
        fingerprint(options_, batches_.augmentation(), network_, batches_.samples())) {
      fail(ErrorCode::kBadInput,
           "checkpoint: it belongs to a run with another plan, data or training options; give the options of "
           "that run, or start without --resume");
    }
    epoch_ = static_cast<int>(read("epoch").toInt());
    step_ = read("step").toInt();
    loss_sum_ = read("loss_sum").toDouble();
    correct_ = read("correct").toInt();
    seen_ = read("seen").toInt();
    torch::serialize::InputArchive tensors;
    archive.read("tensors", tensors);
    const torch::NoGradGuard no_grad;
    for (auto& [name, value] : network_.state()) {
      Tensor saved;
      tensors.read(name, saved, /*is_buffer=*/true);
      if (saved.sizes() != value.sizes())
        fail(ErrorCode::kBadInput, "checkpoint: tensor '{}' has another shape than the network's", name);
      value.copy_(saved);
    }
    torch::serialize::InputArchive optimizer;
    archive.read("optimizer", optimizer);
    optimizer_ = make_optimizer(network_.parameter_groups(),
                                options_);  // load() would keep what the checkpoint has no state for
    optimizer_->load(optimizer);
    scale_optimizer_ = make_scale_optimizer(network_, options_);
    if (scale_optimizer_) {
      torch::serialize::InputArchive scales;
      archive.read("scale_optimizer", scales);
      scale_optimizer_->load(scales);
    }
    averaged_ = read("averaged").toInt();
    for (size_t i = 0; i < averages_.size(); ++i) {
      Tensor saved;
      archive.read(fmt::format("average{}", i), saved, /*is_buffer=*/true);
      averages_[i].copy_(saved);
    }
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& error) {
    fail(ErrorCode::kCorruptFile, "checkpoint: cannot be read: {}",
         printable(error.what_without_backtrace(), 120));
  } catch (const std::exception& error) {  // the unpickler's own
    fail(ErrorCode::kCorruptFile, "checkpoint: cannot be read: {}", printable(error.what(), 120));
  }
}

std::vector<Tensor> calibration_batches(const data::Dataset& dataset, const std::vector<int64_t>& indices,
                                        const data::Normalization& normalization, int count, int batch,
                                        uint64_t seed) {
  std::vector<int64_t> chosen = data::shuffled(indices, seed, ~uint64_t{0});
  chosen.resize(std::min(chosen.size(), static_cast<size_t>(count)));
  const data::BatchFiller filler(dataset, data::Split::kTrain, normalization, 0);
  std::vector<Tensor> batches;
  for (size_t begin = 0; begin < chosen.size(); begin += static_cast<size_t>(batch)) {
    const std::span<const int64_t> part(chosen.data() + begin,
                                        std::min(chosen.size() - begin, static_cast<size_t>(batch)));
    batches.push_back(torch::empty(batch_dims(dataset, part.size())));
    filler.fill(part, floats_of(batches.back()));
  }
  return batches;
}

std::pair<Tensor, Tensor> plain_batch(const data::BatchFiller& filler, const data::Dataset& dataset,
                                      std::span<const int64_t> indices) {
  Tensor x = torch::empty(batch_dims(dataset, indices.size()));
  Tensor labels = torch::empty({static_cast<int64_t>(indices.size())}, torch::kLong);
  filler.fill(indices, floats_of(x));
  filler.fill_labels(indices, {labels.data_ptr<int64_t>(), indices.size()});
  return {x, labels};
}

Evaluation evaluate(const std::function<Tensor(const Tensor&)>& logits, const data::Dataset& dataset,
                    data::Split split, const std::vector<int64_t>& indices,
                    const data::Normalization& normalization, int batch,
                    const std::function<void(int64_t done)>& on_progress) {
  if (indices.empty())
    fail(ErrorCode::kBadInput, "evaluation: the {} split has no samples", data::to_string(split));
  const torch::NoGradGuard no_grad;
  const data::BatchFiller filler(dataset, split, normalization, 0);
  int64_t correct = 0;
  double loss = 0;
  for (size_t begin = 0; begin < indices.size(); begin += static_cast<size_t>(batch)) {
    const std::span<const int64_t> part(indices.data() + begin,
                                        std::min(indices.size() - begin, static_cast<size_t>(batch)));
    const auto [x, labels] = plain_batch(filler, dataset, part);
    const Tensor scores = logits(x).to(torch::kCPU).contiguous();
    const int64_t classes = scores.size(1);
    for (int64_t i = 0; i < scores.size(0); ++i) {
      const float* row = scores.data_ptr<float>() + i * classes;
      correct += (std::max_element(row, row + classes) - row) == labels.data_ptr<int64_t>()[i];
    }
    loss += torch::nn::functional::cross_entropy(scores.to(torch::kDouble), labels).item<double>() *
            static_cast<double>(part.size());
    if (on_progress) on_progress(static_cast<int64_t>(begin + part.size()));
  }
  const auto count = static_cast<double>(indices.size());
  return {static_cast<double>(correct) / count, loss / count};
}

void reestimate_batch_norms(Network& network, const std::vector<Tensor>& batches) {
  const torch::NoGradGuard no_grad;
  network.set_batch_norm_momentum(-1);
  network.set_training(true);
  for (const Tensor& batch : batches) network.forward(batch.to(network.device()));
  network.set_training(false);
  network.set_batch_norm_momentum(0.1);
}

}  // namespace bitstrata::train
