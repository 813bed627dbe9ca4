#include "train/distillation.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "plan/scheme.h"

namespace bitstrata::train {
namespace {

using graph::ValueId;
using torch::Tensor;

/// Values that a quantizer reads, in graph order, each once.
std::set<ValueId> rounded_values(const graph::Graph& graph) {
  const plan::Scheme scheme = plan::derive_scheme(graph);
  std::set<ValueId> values;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    for (size_t i = 0; i < graph.nodes[n].inputs.size(); ++i) {
      const ValueId value = graph.nodes[n].inputs[i];
      const plan::EdgeRole role = scheme.roles[n][i];
      if ((role == plan::EdgeRole::kLayerInput || role == plan::EdgeRole::kStream) &&
          !graph.values[static_cast<size_t>(value)].is_constant() && !plan::is_graph_input(graph, value))
        values.insert(value);
    }
  }
  return values;
}

/// Observes the values of one forward pass.
class Observed {
 public:
  Observed(Network& network, Network::ValueObserver observer) : network_(network) {
    network.set_value_observer(std::move(observer));
  }
  Observed(const Observed&) = delete;
  Observed& operator=(const Observed&) = delete;
  ~Observed() { network_.set_value_observer({}); }

 private:
  Network& network_;
};

}  // namespace

Distillation::Distillation(Network& student, std::shared_ptr<Network> teacher, bool with_layers)
    : student_(student), teacher_(std::move(teacher)) {
  if (!with_layers) return;
  const auto& theirs = teacher_->graph().values;
  for (const ValueId value : rounded_values(student.graph())) {
    const std::string& name = student.graph().values[static_cast<size_t>(value)].name;
    const auto found = std::find_if(theirs.begin(), theirs.end(), [&](const graph::Value& v) {
      return !v.is_constant() && v.name == name;
    });
    if (found == theirs.end())
      fail(ErrorCode::kInternal, "distillation: the teacher has no value '{}'", printable(name));
    values_.emplace_back(value, static_cast<ValueId>(found - theirs.begin()));
  }
}

Tensor Distillation::forward(const Tensor& x) {
  student_values_.assign(values_.size(), Tensor());
  teacher_values_.assign(values_.size(), Tensor());
  const auto keep = [&](std::vector<Tensor>& kept, auto side) {
    return [&kept, side, this](ValueId value, const Tensor& y) {
      for (size_t i = 0; i < values_.size(); ++i) {
        if (values_[i].*side == value) kept[i] = y;
      }
    };
  };
  using Pair = std::pair<ValueId, ValueId>;
  {
    const torch::NoGradGuard no_grad;
    const Observed observed(*teacher_, keep(teacher_values_, &Pair::second));
    teacher_logits_ = teacher_->forward(x);
  }
  const Observed observed(student_, keep(student_values_, &Pair::first));
  return student_.forward(x);
}

Tensor Distillation::logits_loss(const Tensor& logits, double temperature) const {
  const Tensor p = torch::softmax(teacher_logits_ / temperature, 1);
  return -(p * torch::log_softmax(logits / temperature, 1)).sum(1).mean() * (temperature * temperature);
}

Tensor Distillation::layers_loss() const {
  Tensor sum = torch::zeros({}, teacher_logits_.options());
  for (size_t i = 0; i < values_.size(); ++i) {
    const Tensor size = teacher_values_[i].square().sum().clamp_min(1e-12);
    sum = sum + (student_values_[i] - teacher_values_[i]).square().sum() / size;
  }
  return values_.empty() ? sum : sum / static_cast<double>(values_.size());
}

}  // namespace bitstrata::train
