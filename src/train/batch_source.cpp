#include "train/batch_source.h"

#include <algorithm>
#include <span>

#include "core/error.h"

namespace bitstrata::train {

BatchSource::BatchSource(const data::Dataset& dataset, std::vector<int64_t> indices,
                         const data::Normalization& normalization,
                         const std::optional<data::Augmentation>& augmentation, int batch, uint64_t seed)
    : dataset_(dataset),
      indices_(std::move(indices)),
      filler_(dataset, data::Split::kTrain, normalization, 0),
      augmentation_(augmentation.value_or(dataset.default_augmentation())),
      batch_(batch),
      seed_(seed) {
  if (indices_.empty()) fail(ErrorCode::kBadInput, "training: there are no training samples");
  if (batch < 1)
    fail(ErrorCode::kInvalidArgument, "training: found a batch of {}, expected at least 1", batch);
  batch_ = static_cast<int>(std::min<size_t>(static_cast<size_t>(batch), indices_.size()));
}

Batch BatchSource::at(int64_t epoch, int64_t step, torch::Device device) {
  if (ordered_epoch_ != epoch) {
    order_ = data::shuffled(indices_, seed_, static_cast<uint64_t>(epoch));
    ordered_epoch_ = epoch;
  }
  const auto n = static_cast<size_t>(batch_);
  const std::span<const int64_t> chosen(order_.data() + static_cast<size_t>(step) * n, n);
  const auto& shape = dataset_.shape();
  const torch::Tensor x = torch::empty({batch_, shape.channels, shape.height, shape.width});
  torch::Tensor labels = torch::empty({batch_}, torch::kLong);
  filler_.fill_augmented(chosen, augmentation_, {seed_, static_cast<uint64_t>(epoch)},
                         {x.data_ptr<float>(), static_cast<size_t>(x.numel())});
  filler_.fill_labels(chosen, {labels.data_ptr<int64_t>(), n});
  return {x.to(device), labels.to(device)};
}

}  // namespace bitstrata::train
