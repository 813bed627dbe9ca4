#include "evaluators/deployed.h"

#include <memory>

#include "runtime/session.h"
#include "train/exact.h"

namespace bitstrata::evaluators {
namespace {

std::span<float> floats_of(const torch::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

}  // namespace

std::function<torch::Tensor(const torch::Tensor&)> deployed_logits(program::Program program,
                                                                   torch::Device device, int max_batch) {
  if (!device.is_cpu()) {
    auto exact = std::make_shared<train::ExactEvaluator>(std::move(program), device);
    return [exact](const torch::Tensor& x) { return exact->logits(x); };
  }
  runtime::Options options;
  options.threads = torch::get_num_threads();
  options.max_batch = max_batch;
  const int64_t classes = program::elements(program.tensors[static_cast<size_t>(program.outputs.at(0))].dims);
  auto session = std::make_shared<runtime::Session>(runtime::Model::prepare(std::move(program), options));
  return [session, classes](const torch::Tensor& x) {
    const torch::Tensor input = x.contiguous();
    torch::Tensor logits = torch::empty({x.size(0), classes});
    session->run(floats_of(input), static_cast<int>(x.size(0)), floats_of(logits));
    return logits;
  };
}

}  // namespace bitstrata::evaluators
