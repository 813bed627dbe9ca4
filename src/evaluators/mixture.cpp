#include "evaluators/mixture.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "data/batches.h"

namespace bitstrata::evaluators {
namespace {

using Json = nlohmann::json;
using search::Assignment;
using torch::Tensor;

constexpr uint64_t kHalvesEpoch = ~uint64_t{1};  // of the shuffle: no training epoch

/// The halves of the training samples: for the weights and for the shares.
std::pair<std::vector<int64_t>, std::vector<int64_t>> halves(const Setting& setting) {
  const std::vector<int64_t> all = data::shuffled(setting.holdout.train, setting.seed, kHalvesEpoch);
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  return {{all.begin(), middle}, {middle, all.end()}};
}

bool contains(const std::vector<int>& widths, int width) {
  return std::find(widths.begin(), widths.end(), width) != widths.end();
}

/// Candidates of every layer with their calibrated start quantizers.
std::vector<train::Network::LayerMixture> start_mixtures(const Measure& measure) {
  const std::vector<search::Layer>& layers = measure.setting().space.layers;
  std::map<int, compile::Quantizers> at_width;
  for (int width = 1; width <= 8; ++width) {
    Assignment assignment;
    for (const search::Layer& layer : layers) {
      assignment.push_back({contains(layer.weight_bits, width) ? width : layer.weight_bits.front(),
                            contains(layer.activation_bits, width) ? width : layer.activation_bits.front()});
    }
    at_width[width] = measure.quantizers(measure.plan_of(assignment));
  }
  std::vector<train::Network::LayerMixture> mixtures;
  for (const search::Layer& layer : layers) {
    train::Network::LayerMixture mixture{layer.name, layer.weight_bits, {}, {}};
    for (int width : layer.weight_bits)
      mixture.weight_params.push_back(at_width.at(width).layers.at(layer.name).weight_params);
    for (int width : layer.activation_bits)
      mixture.inputs.push_back(at_width.at(width).layers.at(layer.name).input);
    mixtures.push_back(std::move(mixture));
  }
  return mixtures;
}

std::vector<double> to_doubles(const Tensor& gradient, size_t count) {
  if (!gradient.defined()) return std::vector<double>(count, 0.0);  // one candidate: nothing to mix
  const Tensor flat = gradient.detach().to(torch::kCPU, torch::kDouble).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

}  // namespace

MixtureEvaluator::MixtureEvaluator(const Measure& measure, std::shared_ptr<train::Network> teacher)
    : measure_(measure) {
  const Setting& setting = measure.setting();
  const plan::Plan plan = measure.plan_of(setting.space.highest());
  network_ = std::make_unique<train::Network>(setting.graph, plan, measure.quantizers(plan), setting.device);
  network_->set_mixture(start_mixtures(measure));
  auto [for_weights, for_shares] = halves(setting);
  train::TrainOptions options = setting.training;
  options.epochs = std::numeric_limits<int>::max();  // the method decides when to stop
  trainer_ = std::make_unique<train::Trainer>(*network_, *setting.dataset, std::move(for_weights),
                                              setting.normalization, options, std::move(teacher));
  share_batches_ =
      std::make_unique<train::BatchSource>(*setting.dataset, std::move(for_shares), setting.normalization,
                                           options.augmentation, options.batch, options.seed);
}

std::vector<train::Network::LayerShares> MixtureEvaluator::to_tensors(const search::Mixture& mixture,
                                                                      bool with_gradient) const {
  const auto& layers = measure_.setting().space.layers;
  const auto fits = [&](const std::vector<std::vector<double>>& rows, auto widths) {
    return std::equal(rows.begin(), rows.end(), layers.begin(), layers.end(),
                      [&](const auto& row, const auto& layer) { return row.size() == widths(layer).size(); });
  };
  if (!fits(mixture.weight, [](const search::Layer& layer) { return layer.weight_bits; }) ||
      !fits(mixture.activation, [](const search::Layer& layer) { return layer.activation_bits; }))
    fail(ErrorCode::kInvalidArgument, "mixture: the shares do not fit the search space");
  const auto tensor = [&](const std::vector<double>& row) {
    return torch::tensor(row, torch::kFloat).to(measure_.setting().device).set_requires_grad(with_gradient);
  };
  std::vector<train::Network::LayerShares> shares;
  for (size_t l = 0; l < layers.size(); ++l)
    shares.push_back({tensor(mixture.weight[l]), tensor(mixture.activation[l])});
  return shares;
}

double MixtureEvaluator::train_weights(const search::Mixture& mixture, double learning_rate) {
  network_->set_shares(to_tensors(mixture, false));
  return trainer_->step(learning_rate);
}

search::MixtureGradient MixtureEvaluator::share_gradient(const search::Mixture& mixture) {
  const std::vector<train::Network::LayerShares> shares = to_tensors(mixture, true);
  std::vector<Tensor> leaves;
  for (const auto& layer : shares) leaves.insert(leaves.end(), {layer.weight, layer.activation});
  const int64_t steps = share_batches_->steps_per_epoch();
  const auto [x, labels] =
      share_batches_->at(share_steps_ / steps, share_steps_ % steps, measure_.setting().device);
  network_->set_shares(shares);
  network_->set_training(true);
  network_->set_batch_norm_momentum(0);  // the statistics of the batch, and none kept
  const Tensor loss = torch::nn::functional::cross_entropy(network_->forward(x), labels);
  network_->set_batch_norm_momentum(0.1);
  network_->set_training(false);
  const std::vector<Tensor> gradients = torch::autograd::grad({loss}, leaves, {}, false, false, true);
  ++share_steps_;
  search::MixtureGradient result{{}, loss.item<double>()};
  for (size_t l = 0; l < shares.size(); ++l) {
    result.by_share.weight.push_back(to_doubles(gradients[2 * l], mixture.weight[l].size()));
    result.by_share.activation.push_back(to_doubles(gradients[2 * l + 1], mixture.activation[l].size()));
  }
  return result;
}

std::unique_ptr<train::Network> MixtureEvaluator::chosen(const Assignment& assignment) const {
  const plan::Plan plan = measure_.plan_of(assignment);
  auto network = std::make_unique<train::Network>(network_->to_graph(), plan, network_->choose(plan),
                                                  measure_.setting().device);
  train::reestimate_batch_norms(*network, measure_.calibration_batches());
  return network;
}

search::Score MixtureEvaluator::evaluate(const Assignment& assignment) {
  return measure_.exact_score(chosen(assignment)->lower(), measure_.setting().holdout.val);
}

std::string MixtureEvaluator::save() const {
  return Json{{"kind", "mixture"}, {"share_steps", share_steps_}}.dump() + "\n" + trainer_->save();
}

void MixtureEvaluator::restore(const std::string& state) {
  const size_t end = state.find('\n');
  if (end == std::string::npos)
    fail(ErrorCode::kCorruptFile,
         "search checkpoint: the network's part has no header; start without --resume");
  int64_t share_steps = 0;
  try {
    const Json header = Json::parse(state.substr(0, end));
    if (header.at("kind") != "mixture")
      fail(ErrorCode::kBadInput, "search checkpoint: it belongs to another search; start without --resume");
    share_steps = header.at("share_steps").get<int64_t>();
  } catch (const Json::exception& error) {
    fail(ErrorCode::kCorruptFile, "search checkpoint: the network's part cannot be read: {}",
         printable(error.what(), 120));
  }
  if (share_steps < 0)
    fail(ErrorCode::kCorruptFile, "search checkpoint: found {} steps of the shares, expected at least 0",
         share_steps);
  trainer_->restore(state.substr(end + 1));
  share_steps_ = share_steps;
}

}  // namespace bitstrata::evaluators
