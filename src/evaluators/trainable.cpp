#include "evaluators/trainable.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/batches.h"
#include "quant/weights.h"

namespace bitstrata::evaluators {
namespace {

using Json = nlohmann::json;
using search::Assignment;
using search::BitPair;
using search::Score;

constexpr int kProbeBatch = 250;

/// Adds the scores of one batch of logits, as sums.
void add_score(Score& sum, const torch::Tensor& logits, const torch::Tensor& labels) {
  sum.accuracy += (logits.argmax(1) == labels).sum().item<double>();
  sum.loss += torch::nn::functional::cross_entropy(logits.to(torch::kDouble), labels).item<double>() *
              static_cast<double>(labels.size(0));
}

}  // namespace

Trainable::Trainable(const Measure& measure, double probe_share,
                     std::shared_ptr<train::Network> teacher)
    : measure_(measure), assignment_(measure.setting().space.highest()) {
  const Setting& setting = measure.setting();
  const plan::Plan plan = measure.plan_of(assignment_);
  network_ = std::make_unique<train::Network>(setting.graph, plan, measure.quantizers(plan), setting.device);
  train::TrainOptions options = setting.training;
  options.epochs = std::numeric_limits<int>::max();  // the method decides when to stop
  trainer_ = std::make_unique<train::Trainer>(*network_, *setting.dataset, setting.holdout.train,
                                              setting.normalization, options, std::move(teacher));
  probe_indices_ = data::shuffled(setting.holdout.val, setting.seed, 0);
  const auto probed = static_cast<size_t>(probe_share * static_cast<double>(probe_indices_.size()));
  probe_indices_.resize(std::clamp<size_t>(probed, 1, probe_indices_.size()));
}

const compile::Quantizers& Trainable::calibrated(int activation_bits) const {
  const auto found = calibrated_.find(activation_bits);
  if (found != calibrated_.end()) return found->second;
  const Setting& setting = measure_.setting();
  const plan::Plan plan =
      plan::uniform_plan(setting.graph, 8, activation_bits, setting.policy, setting.per_channel);
  return calibrated_[activation_bits] = measure_.quantizers(plan);
}

/// What was learned about a layer's input range carries over: the new scale is the calibrated one times the
/// growth of the old.
train::Network::LayerChange Trainable::change(size_t layer, BitPair bits, const compile::Quantizers& now,
                                              const graph::Graph& graph) const {
  const std::string& name = measure_.setting().space.layers[layer].name;
  const plan::LayerPlan* before = network_->plan().find_layer(name);
  train::Network::LayerChange change{*before, {}};
  change.layer.weight_bits = bits.weight;
  change.layer.activation_bits = bits.activation;
  change.quantizers.input = calibrated(bits.activation).layers.at(name).input;
  const float growth =
      now.layers.at(name).input.scale / calibrated(before->activation_bits).layers.at(name).input.scale;
  change.quantizers.input.scale *= growth;
  const auto node = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                 [&](const graph::Node& candidate) { return candidate.name == name; });
  const auto* conv = std::get_if<graph::Conv>(&node->kind);
  const auto* linear = std::get_if<graph::Linear>(&node->kind);
  change.quantizers.weight_params =
      quant::initial_params(before->policy, bits.weight, conv ? conv->weights : linear->weights,
                            conv ? conv->oc : linear->out, before->per_channel);
  return change;
}

void Trainable::set_bits(const Assignment& assignment) {
  if (assignment == assignment_) return;
  const compile::Quantizers now = network_->quantizers();
  const graph::Graph graph = network_->to_graph();
  for (size_t l = 0; l < assignment.size(); ++l) {
    if (assignment[l] != assignment_[l]) network_->set_layer(change(l, assignment[l], now, graph));
  }
  assignment_ = assignment;
}

Score Trainable::evaluate(const Assignment& assignment) {
  set_bits(assignment);
  return measure_.exact_score(network_->lower(), measure_.setting().holdout.val);
}

std::vector<Score> Trainable::probe(const Assignment& base, std::span<const search::Change> changes) {
  set_bits(base);
  const Setting& setting = measure_.setting();
  const compile::Quantizers now = network_->quantizers();
  const graph::Graph graph = network_->to_graph();
  std::vector<train::Network::LayerChange> network_changes;
  for (const search::Change& c : changes) network_changes.push_back(change(c.layer, c.bits, now, graph));
  std::vector<Score> scores(changes.size());
  const torch::NoGradGuard no_grad;
  const data::BatchFiller filler(*setting.dataset, data::Split::kTrain, setting.normalization, 0);
  for (size_t begin = 0; begin < probe_indices_.size(); begin += kProbeBatch) {
    const size_t count = std::min<size_t>(kProbeBatch, probe_indices_.size() - begin);
    const std::span<const int64_t> part(probe_indices_.data() + begin, count);
    const auto [x, labels] = train::plain_batch(filler, *setting.dataset, part);
    const auto logits = network_->forward_changed(x.to(setting.device), network_changes);
    for (size_t i = 0; i < logits.size(); ++i) add_score(scores[i], logits[i], labels.to(setting.device));
  }
  for (Score& score : scores) {
    score.accuracy /= static_cast<double>(probe_indices_.size());
    score.loss /= static_cast<double>(probe_indices_.size());
  }
  return scores;
}

double Trainable::train_step(const Assignment& assignment, double learning_rate) {
  set_bits(assignment);
  ++steps_;
  return trainer_->step(learning_rate);
}

std::string Trainable::save() const {
  Json bits = Json::array();
  for (const BitPair& pair : assignment_) bits.push_back({pair.weight, pair.activation});
  const std::string header = Json{{"kind", "trainable"}, {"bits", bits}, {"steps", steps_}}.dump();
  return header + "\n" + trainer_->save();
}

void Trainable::restore(const std::string& state) {
  const size_t end = state.find('\n');
  if (end == std::string::npos)
    fail(ErrorCode::kCorruptFile,
         "search checkpoint: the network's part has no header; start without --resume");
  try {
    const Json header = Json::parse(state.substr(0, end));
    Assignment assignment;
    for (const Json& pair : header.at("bits"))
      assignment.push_back({pair.at(0).get<int>(), pair.at(1).get<int>()});
    if (header.at("kind") != "trainable" || assignment.size() != assignment_.size())
      fail(ErrorCode::kBadInput, "search checkpoint: it belongs to another search; start without --resume");
    for (size_t l = 0; l < assignment.size(); ++l) {
      const auto candidates = measure_.setting().space.candidates(l);
      if (std::find(candidates.begin(), candidates.end(), assignment[l]) == candidates.end())
        fail(ErrorCode::kBadInput,
             "search checkpoint: it has bits that are no candidates now; start without --resume");
    }
    set_bits(assignment);
    steps_ = header.at("steps").get<int64_t>();
  } catch (const Json::exception& error) {
    fail(ErrorCode::kCorruptFile, "search checkpoint: the network's part cannot be read: {}",
         printable(error.what(), 120));
  }
  trainer_->restore(state.substr(end + 1));
}

}  // namespace bitstrata::evaluators
