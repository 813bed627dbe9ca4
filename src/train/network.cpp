#include "train/network.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "train/mixture_convolution.h"
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
    case StepKind::kLeakyRelu:
      return torch::leaky_relu(x, step.a);
    case StepKind::kPRelu:
      return torch::where(x >= 0, x, x * per_channel(slopes, x.dim()));
    case StepKind::kHardSigmoid:
      return torch::clamp(x * step.a + step.b, 0, 1);
    case StepKind::kHardSwish:
      return x * torch::clamp(x * (1.0f / 6.0f) + 0.5f, 0, 1);
    case StepKind::kFunction:
      return apply_function(step.function, x, step.a);
    default:
      fail(ErrorCode::kInternal, "training: step has no single-operand form");
  }
}

}  // namespace

quant::CodeType Network::ActivationQuantizer::type() const {
  return {bits, zero, scale().detach().to(torch::kCPU).item<float>()};
}

Network::Network(graph::Graph graph, plan::Plan plan, const compile::Quantizers& quantizers,
                 torch::Device device)
    : graph_(std::move(graph)),
      plan_(std::move(plan)),
      scheme_(plan::derive_scheme(graph_)),
      device_(device),
      nodes_(graph_.nodes.size()),
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
  const bool any_learned =
      std::any_of(plan_.layers.begin(), plan_.layers.end(), [](const plan::LayerPlan& layer) {
        return !layer.is_float() && layer.policy != quant::Policy::kDorefa &&
               layer.policy != quant::Policy::kWrpn;
      });
  for (graph::ValueId v : plan::stream_values(graph_, scheme_)) {
    const std::string& name = graph_.values[static_cast<size_t>(v)].name;
    if (plan_.find_stream(name)->bits == 0) continue;
    const auto found = quantizers.streams.find(name);
    if (found == quantizers.streams.end())
      fail(ErrorCode::kInternal, "training: stream '{}' has no start quantizer", printable(name));
    streams_[v] =
        make_quantizer(found->second, any_learned ? quant::Policy::kLsq : quant::Policy::kDorefa, v);
  }
}

Tensor Network::tensor(const std::vector<float>& values, std::vector<int64_t> dims) const {
  return torch::from_blob(const_cast<float*>(values.data()), dims, torch::kFloat).clone().to(device_);
}

Network::ActivationQuantizer Network::make_quantizer(const quant::CodeType& type, quant::Policy policy,
                                                     graph::ValueId value) const {
  ActivationQuantizer quantizer;
  quantizer.bits = type.bits;
  quantizer.zero = type.zero;
  // The range of pixels is known; nothing is to be learned there.
  const bool fixed = policy == quant::Policy::kDorefa || policy == quant::Policy::kWrpn ||
                     plan::is_graph_input(graph_, value);
  quantizer.decays =
      (policy == quant::Policy::kPact || policy == quant::Policy::kSawb) && quantizer.high() > 0;
  quantizer.start = tensor({type.scale}, {1});
  quantizer.log_growth = torch::zeros_like(quantizer.start).set_requires_grad(!fixed);
  return quantizer;
}

void Network::build_node(size_t index, const compile::Quantizers& quantizers) {
  const Node& node = graph_.nodes[index];
  NodeState& state = nodes_[index];
  const auto parameter = [&](const char* name, const std::vector<float>& values, std::vector<int64_t> dims) {
    state.parameters[name] = tensor(values, std::move(dims)).set_requires_grad(true);
  };
  const auto size = [](const std::vector<float>& v) {
    return std::vector<int64_t>{static_cast<int64_t>(v.size())};
  };
  const auto layer = [&](const std::vector<float>& weights, std::vector<int64_t> dims,
                         const std::vector<float>& bias) {
    parameter("weight", weights, dims);
    if (dims.size() == 4 && device_.is_cpu()) {
      state.parameters["weight"] = state.parameters["weight"]
                                       .detach()
                                       .contiguous(torch::MemoryFormat::ChannelsLast)
                                       .set_requires_grad(true);
    }
    if (!bias.empty()) parameter("bias", bias, size(bias));
    const plan::LayerPlan* plan = plan_.find_layer(node.name);
    if (plan->is_float()) return;
    const auto found = quantizers.layers.find(node.name);
    if (found == quantizers.layers.end())
      fail(ErrorCode::kInternal, "training: layer '{}' has no start quantizer", printable(node.name));
    state.layer = plan;
    state.input = make_quantizer(found->second.input, plan->policy, node.inputs[0]);
    state.buffers["weight_params"] = tensor(found->second.weight_params, size(found->second.weight_params));
    if (learns_weight_params(plan->policy))
      state.parameters["log_growth"] =
          torch::zeros_like(state.buffers["weight_params"]).set_requires_grad(true);
  };
  if (const auto* conv = std::get_if<graph::Conv>(&node.kind)) {
    layer(conv->weights, weight_dims(*conv), conv->bias);
  } else if (const auto* linear = std::get_if<graph::Linear>(&node.kind)) {
    layer(linear->weights, {linear->out, static_cast<int64_t>(linear->weights.size()) / linear->out},
          linear->bias);
  } else if (const auto* norm = std::get_if<graph::BatchNorm>(&node.kind)) {
    parameter("gamma", norm->gamma, size(norm->gamma));
    parameter("beta", norm->beta, size(norm->beta));
    state.buffers["mean"] = tensor(norm->mean, size(norm->mean));
    state.buffers["variance"] = tensor(norm->variance, size(norm->variance));
  } else if (const auto* affine = std::get_if<graph::Affine>(&node.kind)) {
    if (!affine->mul.empty()) state.buffers["mul"] = tensor(affine->mul, size(affine->mul));
    if (!affine->add.empty()) state.buffers["add"] = tensor(affine->add, size(affine->add));
  } else if (const auto* activation = std::get_if<graph::Activation>(&node.kind)) {
    if (activation->step.kind == program::StepKind::kPRelu)
      parameter("slope", activation->step.mul, size(activation->step.mul));
  }
}

Tensor Network::weight_params(const NodeState& state) {
  const Tensor& start = state.buffers.at("weight_params");
  const auto growth = state.parameters.find("log_growth");
  return growth == state.parameters.end() ? start : start * growth->second.exp();
}

void Network::set_batch_norm_momentum(double momentum) noexcept {
  momentum_ = momentum;
  batches_averaged_ = 0;
}

/// A value for one of its readers; the last one leaves nothing behind.
Tensor Network::take(graph::ValueId v) {
  if (const auto constant = constants_.find(v); constant != constants_.end()) return constant->second;
  Tensor x = pass_.values[static_cast<size_t>(v)];
  if (--pass_.uses_left[static_cast<size_t>(v)] == 0) pass_.values[static_cast<size_t>(v)] = Tensor();
  return x;
}

/// The value that node `node` reads as input `index`, quantized as the scheme and the plan say.
Tensor Network::input(size_t node, size_t index) {
  const graph::ValueId v = graph_.nodes[node].inputs[index];
  Tensor x = take(v);
  if (constants_.contains(v)) return x;
  const EdgeRole role = scheme_.roles[node][index];
  if (role != EdgeRole::kLayerInput && role != EdgeRole::kStream) return x;
  Tensor quantized = x;
  if (role == EdgeRole::kLayerInput) {
    if (nodes_[node].layer) quantized = quantize(x, input_mixture(nodes_[node]));
  } else if (const auto stream = streams_.find(v); stream != streams_.end()) {
    auto [made, is_new] = pass_.stream_codes.try_emplace(v);
    if (is_new) made->second = quantize(x, only(stream->second));
    quantized = made->second;
    if (pass_.uses_left[static_cast<size_t>(v)] == 0) pass_.stream_codes.erase(made);
  }
  return edge_hook_ ? edge_hook_(graph_.nodes[node], role, v, x, quantized) : quantized;
}

Tensor Network::run_layer(size_t index) {
  const Node& node = graph_.nodes[index];
  NodeState& state = nodes_[index];
  const Tensor weight = state.layer ? quantized_weight(state) : state.parameters["weight"];
  const auto bias = state.parameters.find("bias");
  const Tensor b = bias == state.parameters.end() ? Tensor() : bias->second;
  const auto* conv = std::get_if<graph::Conv>(&node.kind);
  if (conv && state.layer && can_mix_convolve(conv->window) && !edge_hook_ && device_.is_cpu()) {
    const InputMixture mixture = input_mixture(state);
    return mix_convolve(take(node.inputs[0]), mixture.shares, mixture.growth, mixture.candidates, weight, b,
                        conv->window, conv->groups);
  }
  return conv ? convolve(input(index, 0), weight, b, conv->window, conv->groups)
              : torch::linear(input(index, 0), weight, b);
}

Tensor Network::run_batch_norm(size_t index, const Tensor& x) {
  NodeState& state = nodes_[index];
  const auto& norm = std::get<graph::BatchNorm>(graph_.nodes[index].kind);
  const double momentum =
      momentum_ >= 0 ? momentum_ : 1.0 / static_cast<double>(std::max<int64_t>(1, batches_averaged_));
  return torch::batch_norm(x, state.parameters["gamma"], state.parameters["beta"], state.buffers["mean"],
                           state.buffers["variance"], training_, momentum, norm.epsilon, true);
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
    case graph::Binary::Kind::kAdd:
      return a + b;
    case graph::Binary::Kind::kSubtract:
      return a - b;
    case graph::Binary::Kind::kMultiply:
      return a * b;
    case graph::Binary::Kind::kDivide:
      return a / b;
  }
  return a;
}

Tensor Network::run_node(size_t index) {
  const Node& node = graph_.nodes[index];
  NodeState& state = nodes_[index];
  if (std::holds_alternative<graph::Conv>(node.kind) || std::holds_alternative<graph::Linear>(node.kind))
    return run_layer(index);
  if (std::holds_alternative<graph::Binary>(node.kind)) return run_binary(index);
  if (std::holds_alternative<graph::BatchNorm>(node.kind)) return run_batch_norm(index, input(index, 0));
  if (std::holds_alternative<graph::Affine>(node.kind)) {
    Tensor y = input(index, 0);
    if (state.buffers.contains("mul")) y = y * per_channel(state.buffers["mul"], y.dim());
    if (state.buffers.contains("add")) y = y + per_channel(state.buffers["add"], y.dim());
    return y;
  }
  if (const auto* activation = std::get_if<graph::Activation>(&node.kind)) {
    return apply_step(
        activation->step, input(index, 0),
        activation->step.kind == program::StepKind::kPRelu ? state.parameters["slope"] : Tensor());
  }
  if (const auto* pool = std::get_if<program::AveragePool>(&node.kind)) {
    const Tensor x = input(index, 0);
    return window_sums(x, pool->window) / window_counts(x, *pool);
  }
  if (const auto* mean = std::get_if<program::ReduceMean>(&node.kind)) {
    const Tensor y = input(index, 0).mean(batch_axes(mean->axes), mean->keep_dims);
    return y.dim() == 1 ? y.unsqueeze(1) : y;
  }
  if (const auto* softmax = std::get_if<program::Softmax>(&node.kind))
    return torch::softmax(input(index, 0), softmax->axis + 1);
  if (std::holds_alternative<program::MatMul>(node.kind))
    return torch::matmul(input(index, 0), input(index, 1));
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    Tensor x = input(index, i);
    if (constants_.contains(node.inputs[i])) {
      std::vector<int64_t> dims{pass_.batch_size};
      dims.insert(dims.end(), x.sizes().begin(), x.sizes().end());
      x = x.unsqueeze(0).expand(dims);
    }
    inputs.push_back(x);
  }
  const auto* pad = std::get_if<program::Pad>(&node.kind);
  const program::Dims& dims = graph_.values[static_cast<size_t>(node.output)].dims;
  return std::visit(
      [&](const auto& kind) -> Tensor {
        if constexpr (std::is_constructible_v<program::Kind, decltype(kind)>)
          return move_data(kind, inputs, dims, pad ? pad->value : 0.0);
        fail(ErrorCode::kInternal, "training: node '{}' cannot run", printable(node.name));
      },
      node.kind);
}

void Network::begin(const Tensor& x) {
  ++batches_averaged_;
  pass_ = {x.size(0), std::vector<Tensor>(graph_.values.size()), {}, uses_};
  pass_.values[static_cast<size_t>(graph_.input)] =
      x.dim() == 4 && device_.is_cpu() ? x.contiguous(torch::MemoryFormat::ChannelsLast) : x;
}

Tensor Network::run_from(size_t node) {
  for (size_t n = node; n < graph_.nodes.size(); ++n) {
    Tensor y = run_node(n);
    if (observe_value_) observe_value_(graph_.nodes[n].output, y);
    pass_.values[static_cast<size_t>(graph_.nodes[n].output)] = std::move(y);
  }
  Tensor logits = pass_.values[static_cast<size_t>(graph_.outputs.at(0))];
  pass_ = {};
  return logits;
}

Tensor Network::forward(const Tensor& x) {
  begin(x);
  return run_from(0);
}

size_t Network::layer_node(const std::string& name) const {
  for (size_t n = 0; n < nodes_.size(); ++n) {
    if (nodes_[n].layer && graph_.nodes[n].name == name) return n;
  }
  fail(ErrorCode::kInternal, "training: '{}' is no quantized layer", printable(name));
}

Network::NodeState Network::changed_state(size_t node, const LayerChange& change) const {
  NodeState state = nodes_[node];
  const auto& given = change.quantizers.weight_params;
  if (state.mixture || change.layer.policy != state.layer->policy ||
      static_cast<int64_t>(given.size()) != state.buffers.at("weight_params").numel()) {
    fail(ErrorCode::kInternal, "training: layer '{}' cannot change its policy, scale count or mixture",
         printable(change.layer.name));
  }
  state.buffers["weight_params"] = tensor(given, {static_cast<int64_t>(given.size())});
  if (auto growth = state.parameters.find("log_growth"); growth != state.parameters.end())
    growth->second = torch::zeros_like(growth->second);
  state.input = make_quantizer(change.quantizers.input, change.layer.policy, graph_.nodes[node].inputs[0]);
  state.layer = &change.layer;
  return state;
}

void Network::set_layer(const LayerChange& change) {
  const torch::NoGradGuard no_grad;
  NodeState& state = nodes_[layer_node(change.layer.name)];
  const NodeState changed = changed_state(static_cast<size_t>(&state - nodes_.data()), change);
  // The tensors that an optimizer or a checkpoint holds stay, with new values.
  state.buffers.at("weight_params").copy_(changed.buffers.at("weight_params"));
  if (auto growth = state.parameters.find("log_growth"); growth != state.parameters.end())
    growth->second.zero_();
  state.input.start.copy_(changed.input.start);
  state.input.log_growth.zero_();
  state.input.bits = changed.input.bits;
  state.input.zero = changed.input.zero;
  *std::find_if(plan_.layers.begin(), plan_.layers.end(),
                [&](const plan::LayerPlan& layer) { return layer.name == change.layer.name; }) = change.layer;
}

std::vector<Tensor> Network::forward_changed(const Tensor& x, const std::vector<LayerChange>& changes) {
  std::multimap<size_t, size_t> changes_at;
  for (size_t i = 0; i < changes.size(); ++i) changes_at.emplace(layer_node(changes[i].layer.name), i);
  std::vector<Tensor> logits(changes.size());
  begin(x);
  size_t next = 0;
  for (const auto& [node, i] : changes_at) {
    for (; next < node; ++next) {
      Tensor y = run_node(next);
      pass_.values[static_cast<size_t>(graph_.nodes[next].output)] = std::move(y);
    }
    const Pass before = pass_;
    NodeState changed = changed_state(node, changes[i]);
    std::swap(nodes_[node], changed);
    logits[i] = run_from(node);
    std::swap(nodes_[node], changed);
    pass_ = before;
  }
  pass_ = {};
  return logits;
}

void Network::use_weights_of(const Network& other) {
  for (size_t n = 0; n < nodes_.size(); ++n) {
    if (!std::holds_alternative<graph::Conv>(graph_.nodes[n].kind) &&
        !std::holds_alternative<graph::Linear>(graph_.nodes[n].kind))
      continue;
    for (const char* name : {"weight", "bias"}) {
      if (const auto found = other.nodes_.at(n).parameters.find(name);
          found != other.nodes_[n].parameters.end()) {
        nodes_[n].parameters[name] = found->second.detach();
      }
    }
  }
}

ParameterGroups Network::parameter_groups() const {
  ParameterGroups groups;
  for (const NodeState& state : nodes_) {
    for (const auto& [name, parameter] : state.parameters) {
      if (!parameter.requires_grad()) continue;  // another network's
      (name == "weight"       ? groups.weights
       : name == "log_growth" ? groups.log_scales
                              : groups.others)
          .push_back(parameter);
    }
  }
  for (const ActivationQuantizer* quantizer : activation_quantizers()) {
    if (quantizer->log_growth.requires_grad()) groups.log_scales.push_back(quantizer->log_growth);
  }
  return groups;
}

std::vector<const Network::ActivationQuantizer*> Network::activation_quantizers() const {
  std::vector<const ActivationQuantizer*> all;
  for (const NodeState& state : nodes_) {
    if (state.layer) all.push_back(&state.input);
  }
  for (const auto& [value, quantizer] : streams_) all.push_back(&quantizer);
  return all;
}

Tensor Network::clip_penalty() const {
  Tensor sum;
  for (const ActivationQuantizer* quantizer : activation_quantizers()) {
    if (!quantizer->decays || !quantizer->log_growth.requires_grad()) continue;
    const Tensor clip = quantizer->scale() * static_cast<double>(quantizer->high());
    sum = sum.defined() ? sum + clip * clip : clip * clip;
  }
  return sum;
}

void Network::constrain() {
  const torch::NoGradGuard no_grad;
  for (const ActivationQuantizer* quantizer : activation_quantizers())
    Tensor(quantizer->log_growth).clamp_(-std::log(4.0), std::log(4.0));
}

std::vector<std::pair<std::string, Tensor>> Network::state() const {
  std::vector<std::pair<std::string, Tensor>> all;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const std::string prefix = fmt::format("node{}.", n);
    for (const auto& [name, parameter] : nodes_[n].parameters) all.emplace_back(prefix + name, parameter);
    for (const auto& [name, buffer] : nodes_[n].buffers) all.emplace_back(prefix + name, buffer);
    if (!nodes_[n].layer) continue;
    all.emplace_back(prefix + "input.start", nodes_[n].input.start);
    all.emplace_back(prefix + "input.log_growth", nodes_[n].input.log_growth);
  }
  for (const auto& [value, quantizer] : streams_)
    all.emplace_back(fmt::format("stream{}.log_growth", value), quantizer.log_growth);
  return all;
}

graph::Graph Network::to_graph() const {
  graph::Graph result = graph_;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const NodeState& state = nodes_[n];
    const auto update = [&](const std::map<std::string, Tensor>& from, const char* name,
                            std::vector<float>& to) {
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
  if (!mixed_.empty()) fail(ErrorCode::kInternal, "training: a mixture has no quantizers of its own");
  compile::Quantizers result;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const NodeState& state = nodes_[n];
    if (!state.layer) continue;
    result.layers[graph_.nodes[n].name] = {to_vector(weight_params(state)), state.input.type()};
  }
  for (const auto& [value, quantizer] : streams_)
    result.streams[graph_.values[static_cast<size_t>(value)].name] = quantizer.type();
  return result;
}

}  // namespace bitstrata::train
