#include "common/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "common/model.h"
#include "common/progress.h"
#include "core/error.h"
#include "data/batches.h"

namespace bitstrata::cli {

size_t best_class(std::span<const float> scores) noexcept {
  return static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

Evaluation evaluate(const std::shared_ptr<const runtime::Model>& model, const data::Dataset& dataset,
                    data::Split split, std::span<const int64_t> indices,
                    const data::Normalization& normalization, bool quiet) {
  if (indices.empty())
    fail(ErrorCode::kBadInput, "{} has no images in the chosen split", printable(dataset.name()));
  const auto start = std::chrono::steady_clock::now();
  const auto classes = static_cast<size_t>(num_outputs(model->program()));
  const auto max_batch = static_cast<size_t>(model->options().max_batch);
  const data::BatchFiller filler(dataset, split, normalization, model->options().threads);
  const auto labels = dataset.labels(split);
  std::vector<float> inputs(max_batch * dataset.shape().num_elems());
  std::vector<float> scores(max_batch * classes);
  runtime::Session session(model);
  Progress progress("eval", indices.size(), "images", quiet);

  Evaluation result;
  while (result.images < indices.size()) {
    const auto batch = indices.subspan(result.images, std::min(max_batch, indices.size() - result.images));
    const auto input = std::span(inputs).first(batch.size() * dataset.shape().num_elems());
    const auto output = std::span(scores).first(batch.size() * classes);
    filler.fill(batch, input);
    session.run(input, static_cast<int>(batch.size()), output);
    for (size_t i = 0; i < batch.size(); ++i) {
      const auto row = output.subspan(i * classes, classes);
      if (std::any_of(row.begin(), row.end(), [](float score) { return std::isnan(score); })) {
        fail(ErrorCode::kJobFailed, "the network yields NaN for image {} of {}: its weights are broken",
             batch[i], printable(dataset.name()));
      }
      result.correct += best_class(row) == static_cast<size_t>(labels[static_cast<size_t>(batch[i])]);
    }
    result.images += batch.size();
    progress.update(result.images);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  progress.finish();
  return result;
}

}  // namespace bitstrata::cli
