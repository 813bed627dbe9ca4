// The mixture mode of Network: layers that read weighted sums of candidate quantizations.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "train/network.h"
#include "train/weight_quantizer.h"

namespace bitstrata::train {
namespace {

using torch::Tensor;

std::vector<CodeRange> code_ranges(const std::vector<quant::CodeType>& types) {
  std::vector<CodeRange> ranges;
  for (const quant::CodeType& type : types)
    ranges.push_back({type.scale, type.zero, type.zero + (1 << type.bits) - 1});
  return ranges;
}

/// Gives ranges that start at 0 the geometric mean of their ends.
void share_clip(std::vector<CodeRange>& ranges) {
  double log_clip = 0;
  for (const CodeRange& range : ranges)
    log_clip += std::log(static_cast<double>(range.scale) * range.high) / static_cast<double>(ranges.size());
  for (CodeRange& range : ranges) range.scale = static_cast<float>(std::exp(log_clip) / range.high);
}

template <typename Candidates, typename Matches>
size_t find_candidate(const Candidates& candidates, const std::string& layer, int bits,
                      const Matches& matches) {
  const auto found = std::find_if(candidates.begin(), candidates.end(), matches);
  if (found == candidates.end())
    fail(ErrorCode::kInternal, "training: {} bits are no candidate of layer '{}'", bits, printable(layer));
  return static_cast<size_t>(found - candidates.begin());
}

}  // namespace

void Network::set_mixture(const std::vector<LayerMixture>& mixtures) {
  for (const LayerMixture& given : mixtures) {
    const size_t n = layer_node(given.layer);
    NodeState& state = nodes_[n];
    const size_t widths = given.weight_bits.size();
    if (widths == 0 || given.weight_params.size() != widths || given.inputs.empty())
      fail(ErrorCode::kInternal, "training: the mixture of layer '{}' lacks candidates",
           printable(given.layer));
    std::vector<Tensor> rows;
    for (const auto& params : given.weight_params)
      rows.push_back(tensor(params, {static_cast<int64_t>(params.size())}));
    state.buffers["weight_params"] = torch::stack(rows);
    if (learns_weight_params(state.layer->policy))
      state.parameters["log_growth"] =
          torch::zeros_like(state.buffers["weight_params"]).set_requires_grad(true);

    const auto widest = std::max_element(given.inputs.begin(), given.inputs.end(),
                                         [](const auto& a, const auto& b) { return a.bits < b.bits; });
    Mixture mixture{given.weight_bits, code_ranges(given.inputs), {}};
    state.input = make_quantizer(*widest, state.layer->policy, graph_.nodes[n].inputs[0]);
    const bool from_zero = std::all_of(given.inputs.begin(), given.inputs.end(),
                                       [](const auto& type) { return type.zero == 0; });
    if (from_zero && state.input.log_growth.requires_grad()) {
      share_clip(mixture.inputs);
      const CodeRange& range = mixture.inputs[static_cast<size_t>(widest - given.inputs.begin())];
      state.input.start.fill_(range.scale);
    }
    state.mixture = std::move(mixture);
    mixed_.push_back(n);
  }
}

void Network::set_shares(const std::vector<LayerShares>& shares) {
  if (shares.size() != mixed_.size())
    fail(ErrorCode::kInternal, "training: found shares of {} layers, expected {}", shares.size(),
         mixed_.size());
  for (size_t i = 0; i < shares.size(); ++i) nodes_[mixed_[i]].mixture->shares = shares[i];
}

Tensor Network::quantized_weight(const NodeState& state) {
  const Tensor& weight = state.parameters.at("weight");
  const Tensor params = weight_params(state);
  const quant::Policy policy = state.layer->policy;
  if (state.mixture && state.mixture->weight_bits.size() > 1)
    return mix_weights(policy, state.mixture->weight_bits, weight, state.mixture->shares.weight, params);
  const int bits = state.mixture ? state.mixture->weight_bits[0] : state.layer->weight_bits;
  return mix_weights(policy, {bits}, weight, torch::ones({1}, params.options()), params.reshape({1, -1}));
}

Network::InputMixture Network::only(const ActivationQuantizer& quantizer) {
  return {torch::ones({1}, quantizer.start.options()),
          quantizer.scale(),
          {{1, quantizer.low(), quantizer.high()}}};
}

Network::InputMixture Network::input_mixture(const NodeState& state) {
  if (!state.mixture || state.mixture->inputs.size() == 1) return only(state.input);
  return {state.mixture->shares.activation, state.input.log_growth.exp(), state.mixture->inputs};
}

Tensor Network::quantize(const Tensor& x, const InputMixture& mixture) {
  return mix_activations(x, mixture.shares, mixture.growth, mixture.candidates);
}

compile::Quantizers Network::choose(const plan::Plan& plan) const {
  compile::Quantizers result;
  const auto values = [](const Tensor& tensor) {
    const Tensor flat = tensor.detach().to(torch::kCPU).contiguous();
    return std::vector<float>(flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel());
  };
  for (size_t n : mixed_) {
    const NodeState& state = nodes_[n];
    const std::string& name = graph_.nodes[n].name;
    const plan::LayerPlan* layer = plan.find_layer(name);
    if (layer == nullptr || layer->is_float()) continue;
    const int weight_bits = layer->weight_bits, input_bits = layer->activation_bits;
    const size_t row = find_candidate(state.mixture->weight_bits, name, weight_bits,
                                      [&](int bits) { return bits == weight_bits; });
    const auto& inputs = state.mixture->inputs;
    const size_t input = find_candidate(inputs, name, input_bits, [&](const CodeRange& range) {
      return range.high - range.low == (1 << input_bits) - 1;
    });
    const float growth = state.input.log_growth.detach().exp().to(torch::kCPU).item<float>();
    result.layers[name] = {values(weight_params(state)[static_cast<int64_t>(row)]),
                           {input_bits, inputs[input].low, inputs[input].scale * growth}};
  }
  for (const auto& [value, quantizer] : streams_)
    result.streams[graph_.values[static_cast<size_t>(value)].name] = quantizer.type();
  return result;
}

}  // namespace bitstrata::train
