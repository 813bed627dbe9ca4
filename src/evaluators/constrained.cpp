#include "evaluators/constrained.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "core/error.h"

namespace bitstrata::evaluators {
namespace {

using search::Assignment;
using search::Constraints;
using torch::Tensor;

constexpr int kProximityBatch = 128;
constexpr uint64_t kProximityStream = 0x70726f78;

plan::Plan float_plan(const Setting& setting) {
  return plan::uniform_plan(setting.graph, 0, 0, setting.policy, setting.per_channel);
}

/// -sum softmax(p) log softmax(q), batch mean.
Tensor soft_cross_entropy(const Tensor& p, const Tensor& q) {
  return -(torch::softmax(p, 1) * torch::log_softmax(q, 1)).sum(1).mean();
}

bool ends_with(const std::string& name, std::string_view end) {
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

/// The code with the bits and the zero point of `like` that covers the range of `type`.
float covering_scale(const quant::CodeType& type, const quant::CodeType& like) {
  const int low = type.zero, high = type.zero + (1 << type.bits) - 1;
  const int own_low = like.zero, own_high = like.zero + (1 << like.bits) - 1;
  float scale = 0;
  if (own_low < 0)
    scale = std::max(scale, type.scale * static_cast<float>(low) / static_cast<float>(own_low));
  if (own_high > 0)
    scale = std::max(scale, type.scale * static_cast<float>(high) / static_cast<float>(own_high));
  return scale > 0 ? scale : like.scale;
}

}  // namespace

Constrained::Constrained(const Measure& measure, int proximity_images)
    : measure_(measure),
      terms_(measure.setting().graph, measure.setting().space),
      batches_(*measure.setting().dataset, measure.setting().holdout.train, measure.setting().normalization,
               measure.setting().training.augmentation, measure.setting().training.batch,
               measure.setting().training.seed),
      assignment_(measure.setting().space.highest()) {
  const Setting& setting = measure.setting();
  if (proximity_images < 1)
    fail(ErrorCode::kInvalidArgument, "pdq: found {} images for proximities, expected at least 1",
         proximity_images);
  proximity_batches_ =
      train::calibration_batches(*setting.dataset, setting.holdout.train, setting.normalization,
                                 proximity_images, kProximityBatch, setting.seed ^ kProximityStream);
  const plan::Plan plan = measure.plan_of(assignment_);
  start_ = measure.quantizers(plan);
  float_ = std::make_unique<train::Network>(setting.graph, float_plan(setting), compile::Quantizers{},
                                            setting.device);
  quantized_ = std::make_unique<train::Network>(setting.graph, plan, start_, setting.device);
  quantized_->use_weights_of(*float_);
  // Of the quantized network only the batch norms learn.
  for (Tensor scale : quantized_->parameter_groups().log_scales) scale.set_requires_grad(false);
  for (auto& [name, tensor] : quantized_->state()) {
    if (ends_with(name, ".slope")) tensor.set_requires_grad(false);
  }
  terms_.set_ranges(start_);
  make_optimizers();
}

void Constrained::make_optimizers() {
  const train::TrainOptions& options = measure_.setting().training;
  optimizer_ = train::make_optimizer(float_->parameter_groups(), options);
  const train::ParameterGroups norms = quantized_->parameter_groups();
  if (!norms.others.empty()) norm_optimizer_ = train::make_optimizer(norms, options);
}

const train::Calibrator& Constrained::calibrator() {
  if (!calibrator_)
    calibrator_.emplace(float_->to_graph(), measure_.calibration_batches(), measure_.setting().device);
  return *calibrator_;
}

/// A stream's quantizer has no setter: its scale is moved by the factor that training would learn.
void Constrained::set_stream(const std::string& value, const quant::CodeType& type) {
  const torch::NoGradGuard no_grad;
  const graph::Graph& graph = quantized_->graph();
  const auto found = std::find_if(graph.values.begin(), graph.values.end(),
                                  [&](const graph::Value& v) { return v.name == value && !v.is_constant(); });
  const std::string name = fmt::format("stream{}.log_growth", found - graph.values.begin());
  const quant::CodeType& start = start_.streams.at(value);
  for (auto& [key, tensor] : quantized_->state()) {
    if (key == name) tensor.fill_(std::log(covering_scale(type, start) / start.scale));
  }
}

void Constrained::requantize(const Assignment& assignment) {
  const plan::Plan plan = measure_.plan_of(assignment);
  const compile::Quantizers quantizers = calibrator().quantizers(plan, measure_.setting().calibration);
  for (const plan::LayerPlan& layer : plan.layers)
    quantized_->set_layer({layer, quantizers.layers.at(layer.name)});
  for (const auto& [value, type] : quantizers.streams) set_stream(value, type);
  assignment_ = assignment;
  terms_.set_ranges(quantized_->quantizers());
}

/// Slopes of PReLU are weights of the float network too.
void Constrained::copy_slopes() const {
  const torch::NoGradGuard no_grad;
  const auto from = float_->state();
  const std::map<std::string, Tensor> by_name(from.begin(), from.end());
  for (auto& [name, tensor] : quantized_->state()) {
    if (ends_with(name, ".slope")) tensor.copy_(by_name.at(name));
  }
}

double Constrained::lagrangian_step(const Assignment& assignment, const Constraints& multipliers,
                                    double learning_rate) {
  const Setting& setting = measure_.setting();
  if (multipliers.layers.size() != setting.space.layers.size() || !(multipliers.output >= 0) ||
      !std::all_of(multipliers.layers.begin(), multipliers.layers.end(), [](double m) { return m >= 0; })) {
    fail(ErrorCode::kInvalidArgument,
         "pdq: expected a multiplier >= 0 of the output and of each of {} layers",
         setting.space.layers.size());
  }
  if (assignment != assignment_ || step_ == 0) requantize(assignment);
  copy_slopes();
  const train::Batch batch = batches_.at(epoch_, step_, setting.device);
  train::set_learning_rate(*optimizer_, learning_rate);
  optimizer_->zero_grad();
  if (norm_optimizer_) {
    train::set_learning_rate(*norm_optimizer_, learning_rate);
    norm_optimizer_->zero_grad();
  }
  quantized_->set_training(true);
  float_->set_training(true);
  const QuantizedPass pass = terms_.run_quantized(*quantized_, batch.x);
  const Tensor logits = float_->forward(batch.x);
  namespace F = torch::nn::functional;
  const Tensor loss = F::cross_entropy(
      logits, batch.labels, F::CrossEntropyFuncOptions().label_smoothing(setting.training.label_smoothing));
  const Distances distances = terms_.compare(*float_, batch.x, pass);
  Tensor total = loss + distances.norms;
  if (multipliers.output > 0) total = total + multipliers.output * soft_cross_entropy(logits, pass.logits);
  for (size_t l = 0; l < multipliers.layers.size(); ++l) {
    if (multipliers.layers[l] > 0) total = total + multipliers.layers[l] * distances.layers[l];
  }
  total.backward();
  quantized_->set_training(false);
  float_->set_training(false);
  if (!std::isfinite(total.item<double>())) {
    fail(ErrorCode::kJobFailed, "training diverged: the Lagrangian is {} in epoch {}; lower --lr (now {})",
         total.item<double>(), epoch_ + 1, learning_rate);
  }
  train::clip_gradients(*optimizer_, setting.training.clip_norm);
  optimizer_->step();
  if (norm_optimizer_) {
    train::clip_gradients(*norm_optimizer_, setting.training.clip_norm);
    norm_optimizer_->step();
  }
  calibrator_.reset();
  if (++step_ == steps_per_epoch()) {
    step_ = 0;
    ++epoch_;
  }
  return loss.item<double>();
}

std::unique_ptr<train::Network> Constrained::deployed(const Assignment& assignment) {
  const Setting& setting = measure_.setting();
  copy_slopes();
  const plan::Plan plan = measure_.plan_of(assignment);
  auto network = std::make_unique<train::Network>(
      quantized_->to_graph(), plan, calibrator().quantizers(plan, setting.calibration), setting.device);
  train::reestimate_batch_norms(*network, measure_.calibration_batches());
  return network;
}

search::Score Constrained::evaluate(const Assignment& assignment) {
  return measure_.exact_score(deployed(assignment)->lower(), measure_.setting().holdout.val);
}

Constraints Constrained::proximities(const Assignment& assignment) {
  const torch::NoGradGuard no_grad;
  const std::unique_ptr<train::Network> quantized = deployed(assignment);
  LayerTerms terms = terms_;
  terms.set_ranges(quantized->quantizers());
  Constraints sum{0, std::vector<double>(measure_.setting().space.layers.size(), 0.0)};
  int64_t images = 0;
  for (const Tensor& batch : proximity_batches_) {
    const Tensor x = batch.to(measure_.setting().device);
    const auto n = static_cast<double>(x.size(0));
    const QuantizedPass pass = terms.run_quantized(*quantized, x);
    sum.output += n * soft_cross_entropy(float_->forward(x), pass.logits).item<double>();
    const Distances distances = terms.compare(*float_, x, pass);
    for (size_t l = 0; l < sum.layers.size(); ++l) sum.layers[l] += n * distances.layers[l].item<double>();
    images += x.size(0);
  }
  sum.output /= static_cast<double>(images);
  for (double& distance : sum.layers) distance /= static_cast<double>(images);
  return sum;
}

std::vector<std::pair<std::string, Tensor>> Constrained::tensors() const {
  std::vector<std::pair<std::string, Tensor>> all;
  for (const auto& [name, tensor] : float_->state()) all.emplace_back("float." + name, tensor);
  for (const auto& [name, tensor] : quantized_->state()) {
    const bool shared = ends_with(name, ".weight") || ends_with(name, ".bias");
    if (!shared) all.emplace_back("quantized." + name, tensor);
  }
  return all;
}

std::string Constrained::description() const {
  const Setting& setting = measure_.setting();
  const train::TrainOptions& o = setting.training;
  const data::Augmentation& augmentation = batches_.augmentation();
  std::string text =
      fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {};", setting.seed, o.seed, o.batch,
                  train::to_string(o.optimizer), o.momentum, o.weight_decay, o.label_smoothing, o.clip_norm,
                  augmentation.pad, augmentation.flip, setting.holdout.train.size(),
                  quant::to_string(setting.policy), setting.per_channel, proximity_batches_.size());
  for (const search::Layer& layer : setting.space.layers) text += layer.name + ";";
  return text;
}

std::string Constrained::save() const {
  torch::serialize::OutputArchive archive;
  archive.write("of", c10::IValue(description()));
  archive.write("epoch", c10::IValue(epoch_));
  archive.write("step", c10::IValue(step_));
  std::vector<int64_t> codes;  // weight bits, input bits, input zero point of each layer
  const compile::Quantizers quantizers = quantized_->quantizers();
  for (size_t l = 0; l < assignment_.size(); ++l) {
    const auto& layer = quantizers.layers.at(measure_.setting().space.layers[l].name);
    codes.insert(codes.end(), {assignment_[l].weight, assignment_[l].activation, layer.input.zero});
  }
  archive.write("codes", torch::tensor(codes), /*is_buffer=*/true);
  torch::serialize::OutputArchive values;
  for (const auto& [name, tensor] : tensors())
    values.write(name, tensor.detach().to(torch::kCPU).contiguous(), /*is_buffer=*/true);
  archive.write("tensors", values);
  const auto write = [&](const char* name, const torch::optim::Optimizer& optimizer) {
    torch::serialize::OutputArchive part;
    optimizer.save(part);
    archive.write(name, part);
  };
  write("optimizer", *optimizer_);
  if (norm_optimizer_) write("norm_optimizer", *norm_optimizer_);
  std::ostringstream stream;
  archive.save_to(stream);
  return stream.str();
}

void Constrained::restore(const std::string& state) {
  const Setting& setting = measure_.setting();
  try {
    torch::serialize::InputArchive archive;
    std::istringstream stream(state);
    archive.load_from(stream);
    const auto read = [&](const char* key) {
      c10::IValue value;
      archive.read(key, value);
      return value;
    };
    if (read("of").toStringRef() != description())
      fail(ErrorCode::kBadInput,
           "search checkpoint: it belongs to another network, data or options; start without --resume");
    const int64_t epoch = read("epoch").toInt(), step = read("step").toInt();
    if (epoch < 0 || step < 0 || step >= steps_per_epoch())
      fail(ErrorCode::kCorruptFile, "search checkpoint: found step {} of {} in epoch {}", step,
           steps_per_epoch(), epoch);
    Tensor codes;
    archive.read("codes", codes, /*is_buffer=*/true);
    const size_t layers = setting.space.layers.size();
    if (codes.scalar_type() != torch::kLong || codes.numel() != static_cast<int64_t>(3 * layers))
      fail(ErrorCode::kCorruptFile, "search checkpoint: found bits of another number of layers");
    const compile::Quantizers now = quantized_->quantizers();
    Assignment assignment;
    std::vector<train::Network::LayerChange> changes;
    for (size_t l = 0; l < layers; ++l) {
      const int64_t* code = codes.data_ptr<int64_t>() + 3 * l;
      const search::BitPair bits{static_cast<int>(code[0]), static_cast<int>(code[1])};
      const auto candidates = setting.space.candidates(l);
      if (std::find(candidates.begin(), candidates.end(), bits) == candidates.end() || code[2] > 0 ||
          code[2] <= -(int64_t{1} << bits.activation)) {
        fail(ErrorCode::kBadInput,
             "search checkpoint: it has bits that are no candidates now; start without --resume");
      }
      const std::string& name = setting.space.layers[l].name;
      train::Network::LayerChange change{*quantized_->plan().find_layer(name), now.layers.at(name)};
      change.layer.weight_bits = bits.weight;
      change.layer.activation_bits = change.quantizers.input.bits = bits.activation;
      change.quantizers.input.zero = static_cast<int>(code[2]);
      changes.push_back(std::move(change));
      assignment.push_back(bits);
    }
    torch::serialize::InputArchive values;
    archive.read("tensors", values);
    const torch::NoGradGuard no_grad;
    for (auto& [name, tensor] : tensors()) {
      Tensor saved;
      values.read(name, saved, /*is_buffer=*/true);
      if (saved.sizes() != tensor.sizes())
        fail(ErrorCode::kBadInput, "search checkpoint: tensor '{}' has another shape than the network's",
             name);
    }
    for (const auto& change : changes) quantized_->set_layer(change);
    for (auto& [name, tensor] : tensors()) {
      Tensor saved;
      values.read(name, saved, /*is_buffer=*/true);
      tensor.copy_(saved);
    }
    make_optimizers();
    const auto load = [&](const char* name, torch::optim::Optimizer& optimizer) {
      torch::serialize::InputArchive part;
      archive.read(name, part);
      optimizer.load(part);
    };
    load("optimizer", *optimizer_);
    if (norm_optimizer_) load("norm_optimizer", *norm_optimizer_);
    epoch_ = epoch;
    step_ = step;
    assignment_ = assignment;
    terms_.set_ranges(quantized_->quantizers());
    calibrator_.reset();
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& error) {
    fail(ErrorCode::kCorruptFile, "search checkpoint: cannot be read: {}",
         printable(error.what_without_backtrace(), 120));
  } catch (const std::exception& error) {  // the unpickler's own
    fail(ErrorCode::kCorruptFile, "search checkpoint: cannot be read: {}", printable(error.what(), 120));
  }
}

}  // namespace bitstrata::evaluators
