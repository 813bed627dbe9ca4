#pragma once

#include <memory>
#include <optional>
#include <string>

#include "evaluators/setting.h"
#include "job.h"
#include "search/archive.h"
#include "search/method.h"

namespace bitstrata::cli {

/// Names of all search methods, for --method.
std::vector<std::string> method_names();

/// A search method with the evaluator it works on.
class Searcher {
 public:
  virtual ~Searcher() = default;
  virtual search::Method& method() = 0;
  virtual search::Evaluator& evaluator() = 0;
  /// Epochs of training done so far, in passes over the whole training part.
  virtual double epochs() const { return 0; }
  /// The network that the search has trained at the bits of its plan; null when it trains none.
  virtual const train::Network* trained() const { return nullptr; }
};

/// The space for a job's options. kInvalidArgument for options that the method cannot take.
search::Space make_space(const JobOptions& options, const graph::Graph& graph,
                         const std::optional<search::LatencyTable>& latency);

/// The method of the options over evaluators on `measure`, which must outlive it. teacher: as train::Trainer.
/// Errors as the methods' constructors.
std::unique_ptr<Searcher> make_searcher(const SearchArguments& arguments, const evaluators::Measure& measure,
                                        const std::shared_ptr<train::Network>& teacher);

}  // namespace bitstrata::cli
