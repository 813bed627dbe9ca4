#include "train/network.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "train/operations.h"
#include "train/weight_quantizer.h"

namespace bitstrata::train {
namespace {

using graph::Node;
using plan::EdgeRole;
using torch::Tensor;

std::vector<int64_t> weight_dims(const graph::Conv& conv) {
  const int64_t window = static_cast<int64_t>(conv.window.kernel_h) * conv.window.kernel_w;
  const int64_t ic = static_cast<int64_t>(conv.weights.size()) / conv.oc / window;
  return {conv.oc, ic, conv.window.kernel_h, conv.window.kernel_w};
}

std::vector<float> to_vector(const Tensor& tensor) {
  const Tensor flat = tensor.detach().to(torch::kCPU).contiguous().reshape({-1});
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

Tensor apply_step(const program::Step& step, const Tensor& x, const Tensor& slopes) {
  using program::StepKind;
  switch (step.kind) {
    case StepKind::kClip:
      if (step.a == 0 && step.b == std::numeric_limits<float>::infinity()) return torch::relu(x);
      return torch::clamp(x, step.a, step.b);
    case StepKind::kLeakyRelu: return torch::leaky_relu(x, step.a);
    case StepKind::kPRelu: return torch::where(x >= 0, x, x * per_channel(slopes, x.dim()));
    case StepKind::kHardSigmoid: return torch::clamp(x * step.a + step.b, 0, 1);
    case StepKind::kHardSwish: return x * torch::clamp(x * (1.0f / 6.0f) + 0.5f, 0, 1);
    case StepKind::kFunction: return apply_function(step.function, x, step.a);
    default: fail(ErrorCode::kInternal, "training: step has no single-operand form");
  }
}

}  // namespace

quant::CodeType Network::ActivationQuantizer::type() const {
  const float value = parameter.detach().to(torch::kCPU).item<float>();
  return {bits, zero, is_clip ? value / static_cast<float>(high()) : value};
}

Tensor Network::ActivationQuantizer::operator()(const Tensor& x) const {
  if (is_clip) return fake_quantize(x, parameter / static_cast<double>(high()), low(), high(), gradient);
  if (gradient == ScaleGradient::kNone) return fake_quantize(x, parameter, low(), high(), gradient);
  // LSQ scales the step's gradient by 1 / sqrt(features per sample * Qp), methods.md sheet 5.
  const double features = static_cast<double>(x.numel()) / static_cast<double>(x.size(0));
  return fake_quantize(x, scale_gradient(parameter, 1.0 / std::sqrt(features * std::max(1, high()))), low(), high(), gradient);
}

Network::Network(graph::Graph graph, plan::Plan plan, const compile::Quantizers& quantizers, torch::Device device)
    : graph_(std::move(graph)), plan_(std::move(plan)), scheme_(plan::derive_scheme(graph_)), device_(device), nodes_(graph_.nodes.size()),
      uses_(graph_.values.size(), 0) {
  plan::check_plan(graph_, plan_);
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    build_node(n, quantizers);
    for (graph::ValueId v : graph_.nodes[n].inputs) ++uses_[static_cast<size_t>(v)];
  }
  for (graph::ValueId v : graph_.outputs) ++uses_[static_cast<size_t>(v)];
  for (size_t v = 0; v < graph_.values.size(); ++v) {
    const auto& value = graph_.values[v];
    if (value.is_constant()) constants_[static_cast<graph::ValueId>(v)] = tensor(value.data, value.dims);
  }
  // Streams learn their scale wherever the layers do.
  const bool any_learned = std::any_of(plan_.layers.begin(), plan_.layers.end(), [](const plan::LayerPlan& layer) {
    return !layer.is_float() && layer.policy != quant::Policy::kDorefa && layer.policy != quant::Policy::kWrpn;
  });
  for (graph::ValueId v : plan::stream_values(graph_, scheme_)) {
    const std::string& name = graph_.values[static_cast<size_t>(v)].name;
    if (plan_.find_stream(name)->bits == 0) continue;
    const auto found = quantizers.streams.find(name);
    if (found == quantizers.streams.end()) fail(ErrorCode::kInternal, "training: stream '{}' has no start quantizer", printable(name));
    streams_[v] = make_quantizer(found->second, any_learned ? quant::Policy::kLsq : quant::Policy::kDorefa, v);
  }
}

Tensor Network::tensor(const std::vector<float>& values, std::vector<int64_t> dims) const {
  return torch::from_blob(const_cast<float*>(values.data()), dims, torch::kFloat).clone().to(device_);
}

Network::ActivationQuantizer Network::make_quantizer(const quant::CodeType& type, quant::Policy policy, graph::ValueId value) const {
  ActivationQuantizer quantizer;
  quantizer.bits = type.bits;
  quantizer.zero = type.zero;
  // The range of pixels is known; nothing is to be learned there.
  const bool fixed = policy == quant::Policy::kDorefa || policy == quant::Policy::kWrpn || plan::is_graph_input(graph_, value);
  const bool clip = (policy == quant::Policy::kPact || policy == quant::Policy::kSawb) && quantizer.high() > 0;
  quantizer.is_clip = clip;
  quantizer.gradient = fixed ? ScaleGradient::kNone : ScaleGradient::kLsq;
  quantizer.start = clip ? type.scale * static_cast<float>(quantizer.high()) : type.scale;
  quantizer.parameter = torch::full({1}, quantizer.start, torch::kFloat).to(device_);
  quantizer.parameter.set_requires_grad(!fixed);
  return quantizer;
}

void Network::build_node(size_t index, const compile::Quantizers& quantizers) {
  const Node& node = graph_.nodes[index];
  NodeState& state = nodes_[index];
  const auto parameter = [&](const char* name, const std::vector<float>& values, std::vector<int64_t> dims) {
    state.parameters[name] = tensor(values, std::move(dims)).set_requires_grad(true);
  };
  const auto size = [](const std::vector<float>& v) { return std::vector<int64_t>{static_cast<int64_t>(v.size())}; };
  const auto layer = [&](const std::vector<float>& weights, std::vector<int64_t> dims, const std::vector<float>& bias) {
    parameter("weight", weights, dims);
    if (dims.size() == 4 && device_.is_cpu()) {
      state.parameters["weight"] = state.parameters["weight"].detach().contiguous(torch::MemoryFormat::ChannelsLast).set_requires_grad(true);
    }
    if (!bias.empty()) parameter("bias", bias, size(bias));
    const plan::LayerPlan* plan = plan_.find_layer(node.name);
    if (plan->is_float()) return;
    const auto found = quantizers.layers.find(node.name);
    if (found == quantizers.layers.end()) fail(ErrorCode::kInternal, "training: layer '{}' has no start quantizer", printable(node.name));
    state.layer = plan;
    state.input = make_quantizer(found->second.input, plan->policy, node.inputs[0]);
    const Tensor params = tensor(found->second.weight_params, size(found->second.weight_params));
    if (learns_weight_params(plan->policy)) state.parameters["weight_step"] = params.set_requires_grad(true);
    else state.buffers["weight_gain"] = params;
  };
  if (const auto* conv = std::get_if<graph::Conv>(&node.kind)) {
    layer(conv->weights, weight_dims(*conv), conv->bias);
  } else if (const auto* linear = std::get_if<graph::Linear>(&node.kind)) {
    layer(linear->weights, {linear->out, static_cast<int64_t>(linear->weights.size()) / linear->out}, linear->bias);
  } else if (const auto* norm = std::get_if<graph::BatchNorm>(&node.kind)) {
    parameter("gamma", norm->gamma, size(norm->gamma));
    parameter("beta", norm->beta, size(norm->beta));
    state.buffers["mean"] = tensor(norm->mean, size(norm->mean));
    state.buffers["variance"] = tensor(norm->variance, size(norm->variance));
  } else if (const auto* affine = std::get_if<graph::Affine>(&node.kind)) {
    if (!affine->mul.empty()) state.buffers["mul"] = tensor(affine->mul, size(affine->mul));
    if (!affine->add.empty()) state.buffers["add"] = tensor(affine->add, size(affine->add));
  } else if (const auto* activation = std::get_if<graph::Activation>(&node.kind)) {
    if (activation->step.kind == program::StepKind::kPRelu) parameter("slope", activation->step.mul, size(activation->step.mul));
  }
}

void Network::set_batch_norm_momentum(double momentum) noexcept {
  momentum_ = momentum;
  batches_averaged_ = 0;
}

/// The value that node `node` reads as input `index`, quantized as the scheme and the plan say.
Tensor Network::input(size_t node, size_t index) {
  const graph::ValueId v = graph_.nodes[node].inputs[index];
  if (const auto constant = constants_.find(v); constant != constants_.end()) return constant->second;
  Tensor x = values_[static_cast<size_t>(v)];
  if (--uses_left_[static_cast<size_t>(v)] == 0) values_[static_cast<size_t>(v)] = Tensor();
  const EdgeRole role = scheme_.roles[node][index];
  if (observe_edge_ && (role == EdgeRole::kLayerInput || role == EdgeRole::kStream)) observe_edge_(graph_.nodes[node], role, v, x);
  if (role == EdgeRole::kLayerInput) return nodes_[node].layer ? nodes_[node].input(x) : x;
  if (role != EdgeRole::kStream) return x;
  const auto stream = streams_.find(v);
  if (stream == streams_.end()) return x;
  auto [made, is_new] = stream_codes_.try_emplace(v);
  if (is_new) made->second = stream->second(x);
  return made->second;
}

Tensor Network::run_layer(size_t index) {
  const Node& node = graph_.nodes[index];
  NodeState& state = nodes_[index];
  const Tensor x = input(index, 0);
  Tensor weight = state.parameters["weight"];
  if (state.layer) {
    const Tensor& params = learns_weight_params(state.layer->policy) ? state.parameters["weight_step"] : state.buffers["weight_gain"];
    weight = fake_quantize_weights(state.layer->policy, state.layer->weight_bits, weight, params);
  }
  const auto bias = state.parameters.find("bias");
  const Tensor b = bias == state.parameters.end() ? Tensor() : bias->second;
  Tensor y;
  if (const auto* conv = std::get_if<graph::Conv>(&node.kind)) y = convolve(x, weight, b, conv->window, conv->groups);
  else y = torch::linear(x, weight, b);
  if (observe_output_) observe_output_(static_cast<graph::NodeId>(index), y);
  return y;
}

Tensor Network::run_batch_norm(size_t index, const Tensor& x) {
  NodeState& state = nodes_[index];
  const auto& norm = std::get<graph::BatchNorm>(graph_.nodes[index].kind);
  const double momentum = momentum_ >= 0 ? momentum_ : 1.0 / static_cast<double>(std::max<int64_t>(1, batches_averaged_));
  return torch::batch_norm(x, state.parameters["gamma"], state.parameters["beta"], state.buffers["mean"], state.buffers["variance"], training_,
                           momentum, norm.epsilon, true);
}

Tensor Network::run_binary(size_t index) {
  const graph::Node& node = graph_.nodes[index];
  const size_t rank = graph_.values[static_cast<size_t>(node.output)].dims.size();
  // Constants have no batch dimension and broadcast as they are.
  const auto operand = [&](size_t i) {
    const Tensor x = input(index, i);
    return constants_.contains(node.inputs[i]) ? x : broadcastable(x, rank);
  };
  const Tensor a = operand(0), b = operand(1);
  switch (std::get<graph::Binary>(graph_.nodes[index].kind).kind) {
    case graph::Binary::Kind::kAdd: return a + b;
    case graph::Binary::Kind::kSubtract: return a - b;
    case graph::Binary::Kind::kMultiply: return a * b;
    case graph::Binary::Kind::kDivide: return a / b;
  }
  return a;
}

Tensor Network::run_node(size_t index) {
  const Node& node = graph_.nodes[index];
  NodeState& state = nodes_[index];
  if (std::holds_alternative<graph::Conv>(node.kind) || std::holds_alternative<graph::Linear>(node.kind)) return run_layer(index);
  if (std::holds_alternative<graph::Binary>(node.kind)) return run_binary(index);
  if (std::holds_alternative<graph::BatchNorm>(node.kind)) return run_batch_norm(index, input(index, 0));
  if (std::holds_alternative<graph::Affine>(node.kind)) {
    Tensor y = input(index, 0);
    if (state.buffers.contains("mul")) y = y * per_channel(state.buffers["mul"], y.dim());
    if (state.buffers.contains("add")) y = y + per_channel(state.buffers["add"], y.dim());
    return y;
  }
  if (const auto* activation = std::get_if<graph::Activation>(&node.kind)) {
    return apply_step(activation->step, input(index, 0), activation->step.kind == program::StepKind::kPRelu ? state.parameters["slope"] : Tensor());
  }
  if (const auto* pool = std::get_if<program::AveragePool>(&node.kind)) {
    const Tensor x = input(index, 0);
    return window_sums(x, pool->window) / window_counts(x, *pool);
  }
  if (const auto* mean = std::get_if<program::ReduceMean>(&node.kind)) {
    const Tensor y = input(index, 0).mean(batch_axes(mean->axes), mean->keep_dims);
    return y.dim() == 1 ? y.unsqueeze(1) : y;
  }
  if (const auto* softmax = std::get_if<program::Softmax>(&node.kind)) return torch::softmax(input(index, 0), softmax->axis + 1);
  if (std::holds_alternative<program::MatMul>(node.kind)) return torch::matmul(input(index, 0), input(index, 1));
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    Tensor x = input(index, i);
    if (constants_.contains(node.inputs[i])) {
      std::vector<int64_t> dims{batch_size_};
      dims.insert(dims.end(), x.sizes().begin(), x.sizes().end());
      x = x.unsqueeze(0).expand(dims);
    }
    inputs.push_back(x);
  }
  const auto* pad = std::get_if<program::Pad>(&node.kind);
  const program::Dims& dims = graph_.values[static_cast<size_t>(node.output)].dims;
  return std::visit(
      [&](const auto& kind) -> Tensor {
        if constexpr (std::is_constructible_v<program::Kind, decltype(kind)>) return move_data(kind, inputs, dims, pad ? pad->value : 0.0);
        fail(ErrorCode::kInternal, "training: node '{}' cannot run", printable(node.name));
      },
      node.kind);
}

Tensor Network::forward(const Tensor& x) {
  ++batches_averaged_;
  batch_size_ = x.size(0);
  values_.assign(graph_.values.size(), Tensor());
  stream_codes_.clear();
  uses_left_ = uses_;
  values_[static_cast<size_t>(graph_.input)] = x.dim() == 4 && device_.is_cpu() ? x.contiguous(torch::MemoryFormat::ChannelsLast) : x;
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    Tensor y = run_node(n);
    values_[static_cast<size_t>(graph_.nodes[n].output)] = std::move(y);
  }
  Tensor logits = values_[static_cast<size_t>(graph_.outputs.at(0))];
  values_.clear();
  stream_codes_.clear();
  return logits;
}

ParameterGroups Network::parameter_groups() const {
  ParameterGroups groups;
  const auto add_quantizer = [&](const ActivationQuantizer& quantizer) {
    if (quantizer.parameter.defined() && quantizer.parameter.requires_grad()) (quantizer.is_clip ? groups.ranges : groups.others).push_back(quantizer.parameter);
  };
  for (const NodeState& state : nodes_) {
    for (const auto& [name, parameter] : state.parameters) (name == "weight" ? groups.weights : groups.others).push_back(parameter);
    add_quantizer(state.input);
  }
  for (const auto& [value, quantizer] : streams_) add_quantizer(quantizer);
  return groups;
}

void Network::constrain() {
  const torch::NoGradGuard no_grad;
  const auto bound = [](const ActivationQuantizer& quantizer) { quantizer.parameter.clamp_(quantizer.start / 4, quantizer.start * 4); };
  for (NodeState& state : nodes_) {
    if (const auto step = state.parameters.find("weight_step"); step != state.parameters.end()) step->second.clamp_min_(1e-6);
    if (state.layer) bound(state.input);
  }
  for (auto& [value, quantizer] : streams_) bound(quantizer);
}

std::vector<std::pair<std::string, Tensor>> Network::state() const {
  std::vector<std::pair<std::string, Tensor>> all;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const std::string prefix = fmt::format("node{}.", n);
    for (const auto& [name, parameter] : nodes_[n].parameters) all.emplace_back(prefix + name, parameter);
    for (const auto& [name, buffer] : nodes_[n].buffers) all.emplace_back(prefix + name, buffer);
    if (nodes_[n].layer) all.emplace_back(prefix + "input", nodes_[n].input.parameter);
  }
  for (const auto& [value, quantizer] : streams_) all.emplace_back(fmt::format("stream{}", value), quantizer.parameter);
  return all;
}

graph::Graph Network::to_graph() const {
  graph::Graph result = graph_;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const NodeState& state = nodes_[n];
    const auto update = [&](const std::map<std::string, Tensor>& from, const char* name, std::vector<float>& to) {
      if (const auto found = from.find(name); found != from.end()) to = to_vector(found->second);
    };
    graph::Kind& kind = result.nodes[n].kind;
    if (auto* conv = std::get_if<graph::Conv>(&kind)) {
      update(state.parameters, "weight", conv->weights);
      update(state.parameters, "bias", conv->bias);
    } else if (auto* linear = std::get_if<graph::Linear>(&kind)) {
      update(state.parameters, "weight", linear->weights);
      update(state.parameters, "bias", linear->bias);
    } else if (auto* norm = std::get_if<graph::BatchNorm>(&kind)) {
      update(state.parameters, "gamma", norm->gamma);
      update(state.parameters, "beta", norm->beta);
      update(state.buffers, "mean", norm->mean);
      update(state.buffers, "variance", norm->variance);
    } else if (auto* activation = std::get_if<graph::Activation>(&kind)) {
      update(state.parameters, "slope", activation->step.mul);
    }
  }
  return result;
}

compile::Quantizers Network::quantizers() const {
  compile::Quantizers result;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const NodeState& state = nodes_[n];
    if (!state.layer) continue;
    const bool learned = learns_weight_params(state.layer->policy);
    const Tensor& params = learned ? state.parameters.at("weight_step") : state.buffers.at("weight_gain");
    result.layers[graph_.nodes[n].name] = {to_vector(params), state.input.type()};
  }
  for (const auto& [value, quantizer] : streams_) result.streams[graph_.values[static_cast<size_t>(value)].name] = quantizer.type();
  return result;
}

}  // namespace bitstrata::train
