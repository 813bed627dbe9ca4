#include "compile/lower.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "compile/choices.h"
#include "core/error.h"
#include "plan/scheme.h"
#include "program/function.h"
#include "quant/packing.h"

namespace bitstrata::compile {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;
using plan::EdgeRole;
using program::Op;
using program::Step;
using program::StepKind;
using program::TensorId;

/// Per-channel factor and shift collected in float64 before they are rounded once.
struct ChannelAffine {
  std::vector<double> mul, add;
};

ChannelAffine affine_of(const graph::BatchNorm& norm) {
  ChannelAffine result;
  for (size_t c = 0; c < norm.gamma.size(); ++c) {
    const double gain = norm.gamma[c] / std::sqrt(static_cast<double>(norm.variance[c]) + norm.epsilon);
    result.mul.push_back(gain);
    result.add.push_back(norm.beta[c] - norm.mean[c] * gain);
  }
  return result;
}

ChannelAffine affine_of(const graph::Affine& affine) {
  const size_t channels = std::max(affine.mul.size(), affine.add.size());
  const auto at = [](const std::vector<float>& v, size_t c, double missing) {
    return v.empty() ? missing : static_cast<double>(v.size() == 1 ? v[0] : v[c]);
  };
  ChannelAffine result;
  for (size_t c = 0; c < channels; ++c) {
    result.mul.push_back(at(affine.mul, c, 1.0));
    result.add.push_back(at(affine.add, c, 0.0));
  }
  return result;
}

/// The affine a node applies per channel, if that is all it does.
std::optional<ChannelAffine> affine_of(const graph::Kind& kind) {
  if (const auto* norm = std::get_if<graph::BatchNorm>(&kind)) return affine_of(*norm);
  if (const auto* affine = std::get_if<graph::Affine>(&kind)) return affine_of(*affine);
  return std::nullopt;
}

std::vector<float> rounded(const std::vector<double>& values) { return {values.begin(), values.end()}; }

class Lowering {
 public:
  Lowering(const Graph& graph, const Choices& choices)
      : graph_(graph), choices_(choices), scheme_(plan::derive_scheme(graph)), wanted_(graph.values.size()),
        made_(graph.values.size()), next_(graph.nodes.size(), -1) {
    for (const Node& n : graph.nodes) names_.insert(n.name);
  }

  program::Program run() {
    find_chains();
    collect_wanted_forms();
    start_program();
    for (size_t n = 0; n < graph_.nodes.size(); ++n) emit(static_cast<NodeId>(n));
    for (ValueId value : graph_.outputs) out_.outputs.push_back(tensor(value, std::nullopt));
    program::validate(out_);
    return std::move(out_);
  }

 private:
  const Node& node(NodeId n) const { return graph_.nodes[static_cast<size_t>(n)]; }
  const graph::Value& value(ValueId v) const { return graph_.values[static_cast<size_t>(v)]; }

  /// next_[n]: the node that continues n's op, or -1.
  void find_chains() {
    std::vector<NodeId> producers(graph_.values.size(), -1);
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      producers[static_cast<size_t>(graph_.nodes[n].output)] = static_cast<NodeId>(n);
      const int running = scheme_.running_input(static_cast<NodeId>(n));
      if (running < 0) continue;
      const ValueId from = graph_.nodes[n].inputs[static_cast<size_t>(running)];
      next_[static_cast<size_t>(producers[static_cast<size_t>(from)])] = static_cast<NodeId>(n);
    }
  }

  void want(ValueId v, const Form& form) {
    auto& forms = wanted_[static_cast<size_t>(v)];
    if (std::find(forms.begin(), forms.end(), form) == forms.end()) forms.push_back(form);
  }

  /// Walks backwards, so that when a producer is reached all consumers have said in which forms they want its value.
  void collect_wanted_forms() {
    for (ValueId v : graph_.outputs) want(v, std::nullopt);
    std::vector<bool> live(graph_.nodes.size(), false);
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      const Node& n = graph_.nodes[i];
      const bool continues = next_[i] >= 0;
      live[i] = continues ? live[static_cast<size_t>(next_[i])] : !wanted_[static_cast<size_t>(n.output)].empty();
      if (!live[i]) continue;
      for (size_t k = 0; k < n.inputs.size(); ++k) {
        const EdgeRole role = scheme_.roles[i][k];
        if (role == EdgeRole::kRunning) continue;
        if (const auto* quantize = std::get_if<graph::Quantize>(&n.kind)) {
          want(n.inputs[k], quantize->code);
          continue;
        }
        if (role == EdgeRole::kThrough) {
          const auto forms = wanted_[static_cast<size_t>(n.output)];
          for (const Form& form : forms) want(n.inputs[k], form);
        } else {
          want(n.inputs[k], choices_.form_of_edge(n, role, n.inputs[k]));
        }
      }
    }
  }

  TensorId add_tensor(ValueId v, const Form& form, std::string name = {}) {
    out_.tensors.push_back({std::move(name), value(v).dims, form});
    const auto id = static_cast<TensorId>(out_.tensors.size() - 1);
    made_[static_cast<size_t>(v)].emplace_back(form, id);
    return id;
  }

  TensorId tensor(ValueId v, const Form& form) {
    for (const auto& [made_form, id] : made_[static_cast<size_t>(v)]) {
      if (made_form == form) return id;
    }
    fail(ErrorCode::kInternal, "lowering: value '{}' was not made in the form its consumer wants", printable(value(v).name));
  }

  void start_program() {
    out_.mean = graph_.mean;
    out_.std = graph_.std;
    out_.class_names = graph_.class_names;
    for (size_t i = 0; i < graph_.values.size(); ++i) {
      const auto v = static_cast<ValueId>(i);
      if (!value(v).is_constant() || wanted_[i].empty()) continue;
      out_.constants.push_back({add_tensor(v, std::nullopt), value(v).data});
      store_codes(v, "const:" + value(v).name);
    }
    out_.input = add_tensor(graph_.input, std::nullopt, "input");
    store_codes(graph_.input, "input");
  }

  /// `name`, or with a suffix when a node or an earlier op is called so.
  std::string unique_name(const std::string& name) {
    std::string unused = name;
    for (int i = 1; !names_.insert(unused).second; ++i) unused = fmt::format("{}#{}", name, i);
    return unused;
  }

  /// Codes of a value that exists as float32: the program input, a constant, a softmax.
  void store_codes(ValueId v, const std::string& name) {
    Op op{{}, program::Elementwise{}, {tensor(v, std::nullopt)}, {}, {}};
    for (const Form& form : wanted_[static_cast<size_t>(v)]) {
      if (form) op.outputs.push_back(add_tensor(v, form));
    }
    if (op.outputs.empty()) return;
    op.name = unique_name(name);
    out_.ops.push_back(std::move(op));
  }

  void emit(NodeId n) {
    if (graph::is_data_movement(node(n).kind)) {
      emit_movement(node(n));
      return;
    }
    if (const auto* quantize = std::get_if<graph::Quantize>(&node(n).kind)) {
      emit_quantize(node(n), quantize->code);
      return;
    }
    // An op is emitted where its chain ends, so that all of its operands exist.
    const bool ends_chain = next_[static_cast<size_t>(n)] < 0;
    if (ends_chain && !wanted_[static_cast<size_t>(node(n).output)].empty()) emit_op(n);
  }

  void emit_movement(const Node& n) {
    const auto& forms = wanted_[static_cast<size_t>(n.output)];
    for (size_t i = 0; i < forms.size(); ++i) {
      Op op{i == 0 ? n.name : unique_name(n.name), movement_kind(n), {}, {}, {}};
      for (ValueId v : n.inputs) op.inputs.push_back(tensor(v, forms[i]));
      op.outputs.push_back(add_tensor(n.output, forms[i]));
      out_.ops.push_back(std::move(op));
    }
  }

  /// The codes are made where the input is; what wants the values in another form gets them from the codes.
  void emit_quantize(const Node& n, const quant::CodeType& code) {
    const auto& forms = wanted_[static_cast<size_t>(n.output)];
    if (forms.empty()) return;
    const TensorId codes = tensor(n.inputs[0], code);
    made_[static_cast<size_t>(n.output)].emplace_back(code, codes);
    Op op{{}, program::Elementwise{}, {codes}, {}, {}};
    for (const Form& form : forms) {
      if (form != Form(code)) op.outputs.push_back(add_tensor(n.output, form));
    }
    if (op.outputs.empty()) return;
    op.name = n.name;
    out_.ops.push_back(std::move(op));
  }

  static program::Kind movement_kind(const Node& n) {
    return std::visit(
        [&](const auto& kind) -> program::Kind {
          if constexpr (std::is_constructible_v<program::Kind, decltype(kind)>) return kind;
          fail(ErrorCode::kInternal, "lowering: node '{}' is not data movement", printable(n.name));
        },
        n.kind);
  }

  std::vector<NodeId> chain_ending_at(NodeId tail) const {
    std::vector<NodeId> chain{tail};
    while (true) {
      const int running = scheme_.running_input(chain.back());
      if (running < 0) break;
      chain.push_back(graph::producer(graph_, node(chain.back()).inputs[static_cast<size_t>(running)]));
    }
    std::reverse(chain.begin(), chain.end());
    return chain;
  }

  void emit_op(NodeId tail) {
    const std::vector<NodeId> chain = chain_ending_at(tail);
    const Node& head = node(chain.front());
    Op op;
    op.name = head.name;
    size_t folded = 0;  // nodes behind the head whose affine went into the layer's multiplier
    if (const auto* conv = std::get_if<graph::Conv>(&head.kind)) {
      program::Conv kind{conv->window, conv->groups, conv->oc, {}, {}, {}};
      folded = lower_layer(chain, conv->weights, conv->bias, kind);
      op.kind = std::move(kind);
      op.inputs = {layer_input(head)};
    } else if (const auto* linear = std::get_if<graph::Linear>(&head.kind)) {
      program::Linear kind{linear->out, {}, {}, {}};
      folded = lower_layer(chain, linear->weights, linear->bias, kind);
      op.kind = std::move(kind);
      op.inputs = {layer_input(head)};
    } else {
      lower_head(head, op);
    }
    for (size_t i = 1 + folded; i < chain.size(); ++i) {
      const Node& n = node(chain[i]);
      append_step(n, scheme_.running_input(chain[i]), op.steps);
    }
    const ValueId result = node(tail).output;
    // A softmax stores float32 only.
    const bool stores_codes = !std::holds_alternative<program::Softmax>(op.kind);
    if (!stores_codes) want(result, std::nullopt);
    for (const Form& form : wanted_[static_cast<size_t>(result)]) {
      if (stores_codes || !form) op.outputs.push_back(add_tensor(result, form));
    }
    drop_implied_clips(op);
    out_.ops.push_back(std::move(op));
    if (!stores_codes) store_codes(result, node(tail).name);
  }

  TensorId layer_input(const Node& head) { return tensor(head.inputs[0], choices_.form_of_edge(head, EdgeRole::kLayerInput, head.inputs[0])); }

  /// Fills weights, mul and add of a program::Conv or program::Linear; returns how many chain nodes it folded.
  template <typename Layer>
  size_t lower_layer(const std::vector<NodeId>& chain, const std::vector<float>& weights, const std::vector<float>& bias, Layer& layer) {
    const Node& head = node(chain.front());
    const int oc = channels_of(layer);
    std::vector<double> gain(static_cast<size_t>(oc), 1.0), shift(static_cast<size_t>(oc), 0.0);
    std::copy(bias.begin(), bias.end(), shift.begin());
    size_t folded = 0;
    while (folded + 1 < chain.size()) {
      const auto affine = affine_of(node(chain[folded + 1]).kind);
      if (!affine || (affine->mul.size() != 1 && affine->mul.size() != static_cast<size_t>(oc))) break;
      // A linear layer over several rows has its features last, not first, where per-channel constants apply.
      if (std::holds_alternative<graph::Linear>(head.kind) && value(head.output).dims.size() > 1 && affine->mul.size() != 1) break;
      for (size_t o = 0; o < gain.size(); ++o) {
        const size_t c = affine->mul.size() == 1 ? 0 : o;
        gain[o] *= affine->mul[c];
        shift[o] = shift[o] * affine->mul[c] + affine->add[c];
      }
      ++folded;
    }
    const auto quantized = choices_.weights_of(head);
    if (!quantized) {
      std::vector<float> scaled(weights.size());
      const size_t row = weights.size() / static_cast<size_t>(oc);
      for (size_t i = 0; i < weights.size(); ++i) scaled[i] = static_cast<float>(weights[i] * gain[i / row]);
      layer.weights = program::FloatWeights{std::move(scaled)};
    } else {
      const float input_scale = choices_.form_of_edge(head, EdgeRole::kLayerInput, head.inputs[0])->scale;
      layer.weights = program::CodeWeights{quantized->bits, quantized->grid, quant::pack_codes(quantized->codes, quantized->bits)};
      // The product of two float32: an exported file has a scale for the weights and one for the input.
      for (size_t o = 0; o < gain.size(); ++o) {
        const auto weight_scale = static_cast<float>(gain[o] * static_cast<double>(quantized->scale[o]));
        layer.mul.push_back(weight_scale * input_scale);
      }
    }
    layer.add = rounded(shift);
    return folded;
  }

  static int channels_of(const program::Conv& conv) { return conv.oc; }
  static int channels_of(const program::Linear& linear) { return linear.out; }

  /// Heads other than layers: pooling, functions, and elementwise nodes that continue nothing.
  void lower_head(const Node& n, Op& op) {
    const auto stream = [&](size_t i) {
      const NodeId id = static_cast<NodeId>(&n - graph_.nodes.data());
      return tensor(n.inputs[i], choices_.form_of_edge(n, scheme_.role(id, i), n.inputs[i]));
    };
    if (const auto* activation = std::get_if<graph::Activation>(&n.kind); activation && activation->step.kind == StepKind::kFunction) {
      op.inputs = {stream(0)};
      const Form& form = out_.tensors[static_cast<size_t>(op.inputs[0])].code;
      if (form) {
        op.kind = program::Lookup{function_table(activation->step, *form)};
      } else {
        op.kind = program::Elementwise{};
        op.steps.push_back(activation->step);
      }
      return;
    }
    if (std::holds_alternative<graph::Binary>(n.kind)) {
      size_t loaded = n.inputs.size();
      for (size_t i = 0; i < n.inputs.size() && loaded == n.inputs.size(); ++i) {
        if (!value(n.inputs[i]).is_constant() && value(n.inputs[i]).dims == value(n.output).dims) loaded = i;
      }
      if (loaded == n.inputs.size()) {
        fail(ErrorCode::kUnsupported, "node '{}': both operands are broadcast, supported is one operand with the output's shape", printable(n.name));
      }
      op.kind = program::Elementwise{};
      op.inputs = {stream(loaded)};
      append_step(n, static_cast<int>(loaded), op.steps);
      return;
    }
    for (size_t i = 0; i < n.inputs.size(); ++i) op.inputs.push_back(stream(i));
    if (const auto* pool = std::get_if<program::AveragePool>(&n.kind)) op.kind = *pool;
    else if (const auto* mean = std::get_if<program::ReduceMean>(&n.kind)) op.kind = *mean;
    else if (const auto* softmax = std::get_if<program::Softmax>(&n.kind)) op.kind = *softmax;
    else if (const auto* product = std::get_if<program::MatMul>(&n.kind)) op.kind = *product;
    else if (const auto* lookup = std::get_if<program::Lookup>(&n.kind)) op.kind = *lookup;
    else {
      op.kind = program::Elementwise{};
      append_step(n, 0, op.steps);
    }
  }

  static std::vector<float> function_table(const Step& step, const quant::CodeType& type) {
    std::vector<float> table;
    for (int v = 0; v < type.levels(); ++v) {
      table.push_back(static_cast<float>(program::apply(step.function, quant::dequantize(static_cast<uint8_t>(v), type), step.a)));
    }
    return table;
  }

  /// The step that node `n` applies to the running value, which is its input `running`.
  void append_step(const Node& n, int running, std::vector<Step>& steps) {
    if (const auto affine = affine_of(n.kind)) {
      Step step;
      step.kind = StepKind::kAffine;
      step.mul = rounded(affine->mul);
      step.add = rounded(affine->add);
      steps.push_back(std::move(step));
      return;
    }
    if (const auto* activation = std::get_if<graph::Activation>(&n.kind)) {
      steps.push_back(activation->step);
      return;
    }
    const auto& binary = std::get<graph::Binary>(n.kind);
    const size_t other = 1 - static_cast<size_t>(running);
    const NodeId id = static_cast<NodeId>(&n - graph_.nodes.data());
    Step step;
    step.operand = tensor(n.inputs[other], choices_.form_of_edge(n, scheme_.role(id, other), n.inputs[other]));
    switch (binary.kind) {
      case graph::Binary::Kind::kAdd: step.kind = StepKind::kAdd; break;
      case graph::Binary::Kind::kMultiply: step.kind = StepKind::kMultiply; break;
      case graph::Binary::Kind::kSubtract: step.kind = running == 0 ? StepKind::kSubtract : StepKind::kReverseSubtract; break;
      case graph::Binary::Kind::kDivide:
        step.kind = StepKind::kDivide;
        if (running != 0) {  // t / y = t * (1 / y)
          Step reciprocal;
          reciprocal.kind = StepKind::kFunction;
          reciprocal.function = program::Function::kReciprocal;
          steps.push_back(reciprocal);
          step.kind = StepKind::kMultiply;
        }
        break;
    }
    steps.push_back(std::move(step));
  }

  /// Codes clamp at their lowest and highest value themselves.
  void drop_implied_clips(Op& op) const {
    const auto is_implied = [&](const Step& step) {
      return step.kind == StepKind::kClip && std::ranges::all_of(op.outputs, [&](TensorId id) {
               const Form& form = out_.tensors[static_cast<size_t>(id)].code;
               return form && quant::quantize(step.a, *form) == 0 && quant::quantize(step.b, *form) == form->max_code();
             });
    };
    while (!op.steps.empty() && is_implied(op.steps.back())) op.steps.pop_back();
  }

  const Graph& graph_;
  const Choices& choices_;
  plan::Scheme scheme_;
  std::vector<std::vector<Form>> wanted_;
  std::vector<std::vector<std::pair<Form, TensorId>>> made_;
  std::vector<NodeId> next_;
  std::set<std::string> names_;
  program::Program out_;
};

}  // namespace

program::Program lower(const Graph& graph, const plan::Plan& plan, const Quantizers& quantizers) {
  if (graph::has_quantizers(graph)) {
    fail(ErrorCode::kBadInput, "network '{}' has quantizers of its own, expected a float network", printable(graph.name));
  }
  plan::check_plan(graph, plan);
  return Lowering(graph, PlannedChoices(graph, plan, quantizers)).run();
}

program::Program lower_float(const Graph& graph) {
  return lower(graph, plan::uniform_plan(graph, 0, 0, quant::Policy::kLsq, false), {});
}

QuantizedLowering lower_quantized(const Graph& graph) {
  const OwnChoices choices(graph);
  return {Lowering(graph, choices).run(), choices.float_layers()};
}

}  // namespace bitstrata::compile
