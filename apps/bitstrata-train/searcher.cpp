#include "searcher.h"

#include <algorithm>

#include "core/error.h"
#include "evaluators/constrained.h"
#include "evaluators/mixture.h"
#include "evaluators/sensitivity.h"
#include "evaluators/trainable.h"
#include "search/baselines.h"
#include "search/ccq.h"
#include "search/ebs.h"
#include "search/pdq.h"
#include "search/sensitivity_methods.h"

namespace bitstrata::cli {
namespace {

using evaluators::Measure;

constexpr double kProbeShare = 0.1;  // of the held-out split, as CCQ's release

template <typename T>
void take(const std::optional<T>& given, T& value) {
  if (given) value = *given;
}

/// An evaluator and the method on it, both built in place.
template <typename EvaluatorType>
class Pair : public Searcher {
 public:
  template <typename MakeMethod, typename... Arguments>
  Pair(const MakeMethod& make_method, Arguments&&... arguments)
      : evaluator_(std::forward<Arguments>(arguments)...), method_(make_method(evaluator_)) {}
  search::Method& method() override { return *method_; }
  search::Evaluator& evaluator() override { return evaluator_; }

 protected:
  EvaluatorType evaluator_;
  std::unique_ptr<search::Method> method_;
};

class CcqSearcher : public Pair<evaluators::Trainable> {
 public:
  using Pair::Pair;
  double epochs() const override {
    return static_cast<double>(evaluator_.steps()) / static_cast<double>(evaluator_.steps_per_epoch());
  }
  const train::Network* trained() const override { return &evaluator_.network(); }
};

/// A method whose progress counts mini-batches.
template <typename EvaluatorType>
class CountingSearcher : public Pair<EvaluatorType> {
 public:
  using Pair<EvaluatorType>::Pair;
  double epochs() const override {
    return static_cast<double>(this->method_->status().done) /
           static_cast<double>(this->evaluator_.steps_per_epoch());
  }
};

search::CcqOptions ccq_options(const SearchArguments& a, const evaluators::Setting& setting) {
  search::CcqOptions options;
  options.recovery_epochs = 0.1;
  options.final_epochs = 1;
  options.seed = setting.seed;
  options.high_rate = setting.training.learning_rate;
  options.low_rate = options.high_rate / 10;
  take(a.eta, options.eta);
  take(a.recovery_epochs, options.recovery_epochs);
  take(a.final_epochs, options.final_epochs);
  take(a.drops, options.drops);
  return options;
}

search::EbsOptions ebs_options(const SearchArguments& a, const evaluators::Setting& setting) {
  search::EbsOptions options;
  options.epochs = 2;
  options.seed = setting.seed;
  options.gumbel = a.gumbel;
  options.weights_rate = setting.training.learning_rate;
  take(a.epochs, options.epochs);
  return options;
}

std::vector<double> read_duals(const std::string& path, const search::Space& space) {
  const plan::Plan plan = plan::read_plan(path);
  std::vector<double> duals;
  for (const search::Layer& layer : space.layers) {
    const auto found = plan.sensitivity.find(layer.name);
    if (found == plan.sensitivity.end()) {
      fail(ErrorCode::kBadInput,
           "{}: it has no sensitivity for layer '{}'; expected the plan.json of a search with method pdq on "
           "this network",
           path, printable(layer.name));
    }
    duals.push_back(found->second);
  }
  return duals;
}

search::PdqOptions pdq_options(const SearchArguments& a, const search::Space& space) {
  search::PdqOptions options;
  options.epochs = 2;
  options.dual_every = 0.1;
  options.keep_largest = !a.keep_least;
  take(a.epochs, options.epochs);
  take(a.learning_rate, options.learning_rate);
  if (!a.duals.empty()) options.known_duals = read_duals(a.duals, space);
  take(a.keep, options.keep);
  take(a.keep_bits, options.keep_bits);
  return options;
}

}  // namespace

std::vector<std::string> method_names() {
  return {"uniform", "random", "hawq", "sqnr", "eagl", "ccq", "ebs", "pdq"};
}

search::Space make_space(const JobOptions& options, const graph::Graph& graph,
                         const std::optional<search::LatencyTable>& latency) {
  search::SpaceOptions space;
  space.bits = options.search.bits;
  space.activation_bits = options.search.activation_bits;
  space.tied = options.search.tied.value_or(options.search.method != "ebs");
  for (const std::string& text : options.search.targets) space.targets.push_back(plan::parse_target(text));
  space.latency = latency;
  return search::make_space(graph, space);
}

std::unique_ptr<Searcher> make_searcher(const SearchArguments& a, const Measure& measure,
                                        const std::shared_ptr<train::Network>& teacher) {
  const evaluators::Setting& setting = measure.setting();
  const search::Space& space = setting.space;
  const auto table = [&](search::Sensitivity kind) -> std::unique_ptr<Searcher> {
    const auto method = [&](evaluators::Sensitivities& e) {
      return std::make_unique<search::TableSearch>(space, e, kind);
    };
    return std::make_unique<Pair<evaluators::Sensitivities>>(method, measure);
  };
  if (a.method == "hawq") return table(search::Sensitivity::kHawq);
  if (a.method == "sqnr") return table(search::Sensitivity::kSqnr);
  if (a.method == "eagl") return table(search::Sensitivity::kEagl);
  if (a.method == "uniform") {
    const auto method = [&](evaluators::Sensitivities& e) {
      return std::make_unique<search::UniformSearch>(space, e);
    };
    return std::make_unique<Pair<evaluators::Sensitivities>>(method, measure);
  }
  if (a.method == "random") {
    const auto method = [&](evaluators::Sensitivities& e) {
      return std::make_unique<search::RandomSearch>(
          space, e, search::RandomOptions{a.draws.value_or(10), setting.seed, false});
    };
    return std::make_unique<Pair<evaluators::Sensitivities>>(method, measure);
  }
  if (a.method == "ccq") {
    const search::CcqOptions options = ccq_options(a, setting);
    const auto method = [&](evaluators::Trainable& e) {
      return std::make_unique<search::Ccq>(space, e, options);
    };
    return std::make_unique<CcqSearcher>(method, measure, kProbeShare, teacher);
  }
  if (a.method == "ebs") {
    const auto method = [&](evaluators::MixtureEvaluator& e) {
      return std::make_unique<search::Ebs>(space, e, ebs_options(a, setting));
    };
    return std::make_unique<CountingSearcher<evaluators::MixtureEvaluator>>(method, measure, teacher);
  }
  if (a.method == "pdq") {
    const auto method = [&](evaluators::Constrained& e) {
      return std::make_unique<search::Pdq>(space, e, pdq_options(a, space));
    };
    if (!a.duals.empty()) return std::make_unique<Pair<evaluators::Constrained>>(method, measure);
    return std::make_unique<CountingSearcher<evaluators::Constrained>>(method, measure);
  }
  fail(ErrorCode::kInvalidArgument, "--method: found '{}', expected one of {}", printable(a.method),
       fmt::join(method_names(), ", "));
}

}  // namespace bitstrata::cli
