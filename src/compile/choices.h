#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "compile/lower.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "plan/scheme.h"
#include "quant/weights.h"

namespace bitstrata::compile {

/// The form in which a consumer wants a value: codes of a type, or float32.
using Form = std::optional<quant::CodeType>;

/// What lowering has to know about quantizers, wherever it comes from.
class Choices {
 public:
  virtual ~Choices() = default;
  /// The form in which `node` reads `value` by an edge of `role`, other than running and through.
  virtual Form form_of_edge(const graph::Node& node, plan::EdgeRole role, graph::ValueId value) const = 0;
  /// Codes of the weights of a Conv or Linear; empty when the layer stays float.
  virtual std::optional<quant::QuantizedWeights> weights_of(const graph::Node& layer) const = 0;
};

/// The bits of a plan at the quantizers that were learned for it. All must outlive this.
class PlannedChoices : public Choices {
 public:
  PlannedChoices(const graph::Graph& graph, const plan::Plan& plan, const Quantizers& quantizers)
      : graph_(graph), plan_(plan), quantizers_(quantizers) {}
  Form form_of_edge(const graph::Node& node, plan::EdgeRole role, graph::ValueId value) const override;
  std::optional<quant::QuantizedWeights> weights_of(const graph::Node& layer) const override;

 private:
  const graph::Graph& graph_;
  const plan::Plan& plan_;
  const Quantizers& quantizers_;
};

/// The quantizers that the network brought along.
class OwnChoices : public Choices {
 public:
  explicit OwnChoices(const graph::Graph& graph);
  Form form_of_edge(const graph::Node& node, plan::EdgeRole role, graph::ValueId value) const override;
  std::optional<quant::QuantizedWeights> weights_of(const graph::Node& layer) const override;
  const std::vector<FloatLayer>& float_layers() const noexcept { return float_layers_; }

 private:
  void choose(const graph::Node& layer, size_t weights, const std::optional<graph::ScaledIntegers>& integers);

  std::vector<Form> carried_;  ///< by value
  std::map<std::string, quant::QuantizedWeights> layers_;
  std::vector<FloatLayer> float_layers_;
};

}  // namespace bitstrata::compile
