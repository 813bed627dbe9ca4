#include "train/calibrate.h"

#include <map>
#include <set>
#include <span>

#include "core/error.h"
#include "plan/scheme.h"
#include "quant/weights.h"
#include "train/network.h"

namespace bitstrata::train {
namespace {

using graph::Graph;
using graph::NodeId;
using torch::Tensor;

plan::Plan float_plan(const Graph& graph) {
  return plan::uniform_plan(graph, 0, 0, quant::Policy::kLsq, false);
}

bool lacks_batch_norm(const Graph& graph, const std::vector<std::vector<NodeId>>& users, NodeId id,
                      NodeId last_layer) {
  const graph::Node& node = graph.nodes[static_cast<size_t>(id)];
  const bool hidden_linear = std::holds_alternative<graph::Linear>(node.kind) && id != last_layer &&
                             graph.values[static_cast<size_t>(node.output)].dims.size() == 1;
  if (!std::holds_alternative<graph::Conv>(node.kind) && !hidden_linear) return false;
  for (NodeId user : users[static_cast<size_t>(node.output)]) {
    if (std::holds_alternative<graph::BatchNorm>(graph.nodes[static_cast<size_t>(user)].kind)) return false;
  }
  return true;
}

/// Per-channel sums in float64.
struct Moments {
  Tensor sum, squares;
  int64_t count = 0;
  void add(const Tensor& y) {
    const Tensor wide = y.detach().to(torch::kDouble).transpose(0, 1).reshape({y.size(1), -1});
    const Tensor s = wide.sum(1), q = (wide * wide).sum(1);
    sum = count ? sum + s : s;
    squares = count ? squares + q : q;
    count += wide.size(1);
  }
};

graph::BatchNorm neutral_batch_norm(const Moments& moments, std::vector<float>& bias) {
  const Tensor mean = (moments.sum / moments.count).to(torch::kCPU).contiguous();
  const Tensor variance = (moments.squares / moments.count - (moments.sum / moments.count).pow(2))
                              .clamp_min(0)
                              .to(torch::kCPU)
                              .contiguous();
  graph::BatchNorm norm;
  for (int64_t c = 0; c < mean.numel(); ++c) {
    const double m = mean.data_ptr<double>()[c], v = variance.data_ptr<double>()[c];
    norm.gamma.push_back(static_cast<float>(std::sqrt(v + norm.epsilon)));
    norm.beta.push_back(static_cast<float>(m));
    norm.mean.push_back(static_cast<float>(bias.empty() ? m : m - bias[static_cast<size_t>(c)]));
    norm.variance.push_back(static_cast<float>(v));
  }
  bias.clear();  // the shift does its work
  return norm;
}

void run_batches(Network& network, const std::vector<Tensor>& batches) {
  const torch::NoGradGuard no_grad;
  for (const Tensor& batch : batches) network.forward(batch.to(network.device()));
}

}  // namespace

Graph with_batch_norms(const Graph& graph, const std::vector<Tensor>& batches, torch::Device device) {
  NodeId last_layer = -1;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (graph::macs(graph, graph.nodes[n]) > 0) last_layer = static_cast<NodeId>(n);
  }
  const auto users = graph::consumers(graph);
  std::map<NodeId, Moments> moments;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (lacks_batch_norm(graph, users, static_cast<NodeId>(n), last_layer))
      moments[static_cast<NodeId>(n)] = {};
  }
  if (moments.empty()) return graph;
  Network network(graph, float_plan(graph), {}, device);
  network.set_value_observer([&](graph::ValueId value, const Tensor& y) {
    if (const auto found = moments.find(graph::producer(graph, value)); found != moments.end())
      found->second.add(y);
  });
  run_batches(network, batches);
  Graph result = graph;
  NodeId inserted = 0;  // every insertion moves the later nodes up by one
  for (const auto& [id, moment] : moments) {
    graph::Node& node = result.nodes[static_cast<size_t>(id + inserted)];
    auto* conv = std::get_if<graph::Conv>(&node.kind);
    std::vector<float>& bias = conv ? conv->bias : std::get<graph::Linear>(node.kind).bias;
    graph::BatchNorm norm = neutral_batch_norm(moment, bias);
    graph::insert_batch_norm(result, id + inserted, node.name + "/bn", std::move(norm));
    ++inserted;
  }
  return result;
}

Calibrator::Calibrator(Graph graph, const std::vector<Tensor>& batches, torch::Device device)
    : graph_(std::move(graph)) {
  Network network(graph_, float_plan(graph_), {}, device);
  std::set<graph::ValueId> added;  // a value on several edges counts once
  network.set_edge_hook(
      [&](const graph::Node&, plan::EdgeRole, graph::ValueId value, const Tensor& x, const Tensor&) {
        if (added.insert(value).second) {
          const Tensor flat = x.detach().to(torch::kCPU).contiguous();
          seen_[value].add(std::span(flat.data_ptr<float>(), static_cast<size_t>(flat.numel())));
        }
        return x;
      });
  for (const Tensor& batch : batches) {
    added.clear();
    run_batches(network, {batch});
  }
  for (const auto& [value, observer] : seen_) {
    if (observer.non_finite_seen() > 0) {
      fail(ErrorCode::kBadInput,
           "calibration: value '{}' of the float network is not finite on this data; check the network and "
           "the normalisation",
           printable(graph_.values[static_cast<size_t>(value)].name));
    }
  }
}

compile::Quantizers Calibrator::quantizers(const plan::Plan& plan, quant::Calibration method) const {
  plan::check_plan(graph_, plan);
  compile::Quantizers result;
  for (const graph::Node& node : graph_.nodes) {
    const plan::LayerPlan* layer = plan.find_layer(node.name);
    if (layer == nullptr || layer->is_float()) continue;
    const auto* conv = std::get_if<graph::Conv>(&node.kind);
    const auto* linear = std::get_if<graph::Linear>(&node.kind);
    const std::vector<float>& weights = conv ? conv->weights : linear->weights;
    const graph::ValueId input = node.inputs[0];
    result.layers[node.name] = {quant::initial_params(layer->policy, layer->weight_bits, weights,
                                                      conv ? conv->oc : linear->out, layer->per_channel),
                                quant::calibrate(seen_.at(input), method, layer->activation_bits,
                                                 graph::is_nonnegative(graph_, input))};
  }
  for (graph::ValueId value : plan::stream_values(graph_, plan::derive_scheme(graph_))) {
    const plan::StreamPlan& stream = *plan.find_stream(graph_.values[static_cast<size_t>(value)].name);
    if (stream.bits == 0) continue;
    result.streams[stream.value] =
        quant::calibrate(seen_.at(value), method, stream.bits, graph::is_nonnegative(graph_, value));
  }
  return result;
}

compile::Quantizers calibrate(const Graph& graph, const plan::Plan& plan, const std::vector<Tensor>& batches,
                              quant::Calibration method, torch::Device device) {
  return Calibrator(graph, batches, device).quantizers(plan, method);
}

}  // namespace bitstrata::train
