#include "evaluators/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/random.h"
#include "data/batches.h"
#include "quant/weights.h"

namespace bitstrata::evaluators {
namespace {

using Json = nlohmann::json;
using search::BitPair;
using torch::Tensor;

constexpr int kSqnrBatch = 128;
constexpr double kSqnrNoiseFloor = 1e-4;      // AIMET's
constexpr uint64_t kSignStream = 0x68657373;  // random numbers of the trace

/// +-1 with equal chances, the same on every device.
Tensor random_signs(const Tensor& like, uint64_t seed, uint64_t draw, uint64_t layer) {
  Random random(seed, mix64(mix64(kSignStream ^ mix64(draw)) ^ layer));
  Tensor signs = torch::empty(like.sizes(), torch::kFloat);
  float* out = signs.data_ptr<float>();
  const int64_t n = signs.numel();
  for (int64_t i = 0; i < n; i += 64) {
    uint64_t bits = random.bits();
    for (int64_t j = i; j < std::min(n, i + 64); ++j, bits >>= 1) out[j] = (bits & 1) ? 1.0f : -1.0f;
  }
  return signs.to(like.device());
}

/// Gradients that no path leads to are zero.
std::vector<Tensor> gradients(const Tensor& of, const std::vector<Tensor>& by, bool differentiable) {
  auto found = torch::autograd::grad({of}, by, {}, differentiable, differentiable, /*allow_unused=*/true);
  for (size_t i = 0; i < by.size(); ++i) {
    if (!found[i].defined()) found[i] = torch::zeros_like(by[i]);
  }
  return found;
}

/// v_l . (H v)_l of every layer, of the mean loss of one batch.
std::vector<double> quadratic_forms(train::Network& network, const std::vector<Tensor>& weights,
                                    const std::vector<Tensor>& vectors, const Tensor& x,
                                    const Tensor& labels) {
  const Tensor loss = torch::nn::functional::cross_entropy(network.forward(x), labels);
  const std::vector<Tensor> gradient = gradients(loss, weights, true);
  Tensor slope = torch::zeros({}, loss.options());
  for (size_t l = 0; l < weights.size(); ++l) slope = slope + (gradient[l] * vectors[l]).sum();
  std::vector<double> forms(weights.size(), 0.0);
  if (!slope.requires_grad()) return forms;
  const std::vector<Tensor> products = gradients(slope, weights, false);
  for (size_t l = 0; l < weights.size(); ++l)
    forms[l] = (products[l] * vectors[l]).sum(torch::kDouble).item<double>();
  return forms;
}

}  // namespace

Sensitivities::Sensitivities(const Measure& measure, SensitivityOptions options)
    : measure_(measure), options_(options) {
  if (std::min({options.sqnr_images, options.hessian_images, options.hessian_batch, options.max_draws}) < 1)
    fail(ErrorCode::kInvalidArgument, "sensitivity: images, batch and draws must be at least 1");
}

const graph::Node& Sensitivities::node_of(size_t layer) const {
  const Setting& setting = measure_.setting();
  const std::string& name = setting.space.layers.at(layer).name;
  return *std::find_if(setting.graph.nodes.begin(), setting.graph.nodes.end(),
                       [&](const graph::Node& node) { return node.name == name; });
}

plan::Plan Sensitivities::float_plan() const {
  const Setting& setting = measure_.setting();
  return plan::uniform_plan(setting.graph, 0, 0, setting.policy, setting.per_channel);
}

const Sensitivities::WeightFigures& Sensitivities::weights_at(size_t layer, int bits) {
  const auto [found, is_new] = weights_.try_emplace({layer, bits});
  if (!is_new) return found->second;
  const Setting& setting = measure_.setting();
  const graph::Node& node = node_of(layer);
  const auto* conv = std::get_if<graph::Conv>(&node.kind);
  const auto* linear = std::get_if<graph::Linear>(&node.kind);
  const std::vector<float>& weights = conv ? conv->weights : linear->weights;
  const int oc = conv ? conv->oc : linear->out;
  const quant::QuantizedWeights quantized =
      quant::quantize_weights(setting.policy, bits, weights, oc,
                              quant::initial_params(setting.policy, bits, weights, oc, setting.per_channel));
  const size_t row = weights.size() / static_cast<size_t>(oc);
  std::vector<int64_t> uses(size_t{1} << bits, 0);
  for (size_t i = 0; i < weights.size(); ++i) {
    const int code = quantized.codes[i];
    ++uses[static_cast<size_t>(code)];
    const double error = static_cast<double>(quantized.scale[i / row]) * quantized.grid.at(code) - weights[i];
    found->second.squared_error += error * error;
  }
  for (int64_t count : uses) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / static_cast<double>(weights.size());
    found->second.entropy_bits -= p * std::log2(p);
  }
  return found->second;
}

double Sensitivities::output_sqnr(size_t layer, BitPair bits) {
  const auto known = sqnr_.find({layer, bits});
  if (known != sqnr_.end()) return known->second;
  const Setting& setting = measure_.setting();
  const torch::NoGradGuard no_grad;
  if (images_.empty()) {
    images_ = train::calibration_batches(*setting.dataset, setting.holdout.train, setting.normalization,
                                         options_.sqnr_images, kSqnrBatch, setting.seed);
    train::Network network(setting.graph, float_plan(), {}, setting.device);
    for (const Tensor& x : images_) float_logits_.push_back(network.forward(x.to(setting.device)));
  }
  plan::Plan plan = float_plan();
  const std::string& name = setting.space.layers.at(layer).name;
  for (plan::LayerPlan& one : plan.layers) {
    if (one.name != name) continue;
    one.weight_bits = bits.weight;
    one.activation_bits = bits.activation;
  }
  train::Network network(setting.graph, plan, measure_.quantizers(plan), setting.device);
  double ratio = 0;
  for (size_t i = 0; i < images_.size(); ++i) {
    const Tensor y = float_logits_[i].to(torch::kDouble);
    const Tensor noise = y - network.forward(images_[i].to(setting.device)).to(torch::kDouble);
    ratio += y.square().mean().item<double>() / (noise.square().mean().item<double>() + kSqnrNoiseFloor);
  }
  const double db = 10 * std::log10(std::max(ratio / static_cast<double>(images_.size()), 1e-30));
  if (!std::isfinite(db)) {
    fail(ErrorCode::kBadInput, "sensitivity: the logits are not finite with layer '{}' at {} x {} bits",
         printable(name), bits.weight, bits.activation);
  }
  return sqnr_[{layer, bits}] = db;
}

double Sensitivities::hessian_trace(size_t layer) {
  while (!refine_traces()) {
  }
  const auto weights = static_cast<double>(measure_.setting().space.layers.at(layer).weights);
  return trace_sums_.at(layer) / draws_ / weights;
}

bool Sensitivities::refine_traces() {
  if (traces_done_) return true;
  const Setting& setting = measure_.setting();
  train::Network network(setting.graph, float_plan(), {}, setting.device);
  const std::vector<Tensor> weights = network.parameter_groups().weights;  // in the order of the space
  const data::BatchFiller filler(*setting.dataset, data::Split::kTrain, setting.normalization, 0);
  std::vector<int64_t> chosen = data::shuffled(setting.holdout.train, setting.seed, kSignStream);
  chosen.resize(std::min(chosen.size(), static_cast<size_t>(options_.hessian_images)));
  trace_sums_.resize(weights.size(), 0.0);
  const std::vector<double> before = trace_sums_;
  std::vector<Tensor> vectors;
  for (size_t l = 0; l < weights.size(); ++l)
    vectors.push_back(random_signs(weights[l], setting.seed, static_cast<uint64_t>(draws_), l));
  for (size_t begin = 0; begin < chosen.size(); begin += static_cast<size_t>(options_.hessian_batch)) {
    const size_t count = std::min(chosen.size() - begin, static_cast<size_t>(options_.hessian_batch));
    const auto [x, labels] =
        train::plain_batch(filler, *setting.dataset, std::span(chosen).subspan(begin, count));
    const std::vector<double> forms =
        quadratic_forms(network, weights, vectors, x.to(setting.device), labels.to(setting.device));
    const double share = static_cast<double>(count) / static_cast<double>(chosen.size());
    for (size_t l = 0; l < weights.size(); ++l) trace_sums_[l] += share * forms[l];
  }
  double change = 0, size = 0;
  for (size_t l = 0; l < weights.size(); ++l) {
    const double mean = trace_sums_[l] / (draws_ + 1);
    change += std::fabs(mean - (draws_ == 0 ? 0.0 : before[l] / draws_));
    size += std::fabs(mean);
  }
  if (!std::isfinite(size))
    fail(ErrorCode::kBadInput, "sensitivity: the loss has no finite second derivatives on this data");
  ++draws_;
  traces_done_ = draws_ >= options_.max_draws || change < options_.tolerance * size;
  return traces_done_;
}

std::string Sensitivities::description() const {
  const Setting& setting = measure_.setting();
  std::string text =
      fmt::format("{} {} {} {} {} {} {} {} {};", setting.seed, options_.sqnr_images, options_.hessian_images,
                  options_.hessian_batch, options_.max_draws, options_.tolerance,
                  quant::to_string(setting.policy), setting.per_channel, setting.dataset->name());
  for (const search::Layer& layer : setting.space.layers) text += layer.name + ";";
  return text;
}

std::string Sensitivities::save() const {
  Json sqnr = Json::array();
  for (const auto& [key, db] : sqnr_)
    sqnr.push_back({key.first, key.second.weight, key.second.activation, db});
  return Json{{"kind", "sensitivities"}, {"of", description()},         {"trace_sums", trace_sums_},
              {"draws", draws_},         {"traces_done", traces_done_}, {"sqnr", sqnr}}
      .dump(-1, ' ', true, Json::error_handler_t::replace);
}

void Sensitivities::restore(const std::string& state) {
  try {
    const Json saved = Json::parse(state);
    const Json own = Json::parse(save());
    if (saved.at("kind") != own.at("kind") || saved.at("of") != own.at("of")) {
      fail(ErrorCode::kBadInput,
           "search checkpoint: it belongs to another network or other options; start without --resume");
    }
    const auto sums = saved.at("trace_sums").get<std::vector<double>>();
    const int draws = saved.at("draws").get<int>();
    const bool traces_done = saved.at("traces_done").get<bool>();
    const size_t expected = draws > 0 ? measure_.setting().space.layers.size() : 0;
    if (draws < 0 || sums.size() != expected || (traces_done && draws == 0)) {
      fail(ErrorCode::kCorruptFile, "search checkpoint: found {} traces after {} draws, expected {}",
           sums.size(), draws, expected);
    }
    std::map<std::pair<size_t, BitPair>, double> sqnr;
    for (const Json& entry : saved.at("sqnr")) {
      const BitPair bits{entry.at(1).get<int>(), entry.at(2).get<int>()};
      sqnr[{entry.at(0).get<size_t>(), bits}] = entry.at(3).get<double>();
    }
    trace_sums_ = sums;
    draws_ = draws;
    traces_done_ = traces_done;
    sqnr_ = std::move(sqnr);
  } catch (const Json::exception& error) {
    fail(ErrorCode::kCorruptFile, "search checkpoint: the sensitivities cannot be read: {}",
         printable(error.what(), 120));
  }
}

}  // namespace bitstrata::evaluators
