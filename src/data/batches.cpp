#include "data/batches.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "data/order.h"
#include "data/parallel.h"

namespace bitstrata::data {

std::vector<int64_t> shuffled(std::span<const int64_t> indices, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order(indices.begin(), indices.end());
  shuffle(order, Random(seed, stream(Purpose::kShuffle, epoch)));
  return order;
}

std::vector<int64_t> all_indices(size_t count) {
  std::vector<int64_t> indices(count);
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return indices;
}

/// Where the output lies in its sample: output row y shows source row y + dy, before mirroring likewise for
/// columns.
struct BatchFiller::Placement {
  int dy = 0;
  int dx = 0;
  bool mirror = false;
};

namespace {

/// Copies one row, to_value giving the float of a source element; columns outside the source become 0.
template <typename T, typename ToValue>
void write_row(const T* src, int width, int dx, bool mirror, float* dst, ToValue to_value) {
  const int begin = std::max(0, -dx), end = std::min(width, width - dx);
  if (mirror) {
    std::fill(dst, dst + (width - end), 0.0f);
    for (int x = begin; x < end; ++x) dst[width - 1 - x] = to_value(src[x + dx]);
    std::fill(dst + (width - begin), dst + width, 0.0f);
  } else {
    std::fill(dst, dst + begin, 0.0f);
    for (int x = begin; x < end; ++x) dst[x] = to_value(src[x + dx]);
    std::fill(dst + end, dst + width, 0.0f);
  }
}

}  // namespace

BatchFiller::BatchFiller(const Dataset& dataset, Split split, const Normalization& normalization, int threads)
    : dataset_(dataset), split_(split), threads_(resolve_threads(threads)) {
  if (!dataset.is_normalized()) table_ = normalization_table(normalization, dataset.shape().channels);
}

void BatchFiller::check(std::span<const int64_t> indices, size_t found_elems, size_t expected_elems) const {
  if (found_elems != expected_elems) {
    fail(ErrorCode::kInvalidArgument, "batch has {} elements, expected {} for {} samples", found_elems,
         expected_elems, indices.size());
  }
  const auto count = static_cast<int64_t>(dataset_.num_samples(split_));
  for (const int64_t index : indices) {
    if (index < 0 || index >= count) {
      fail(ErrorCode::kInvalidArgument, "sample {} is out of range: the {} split of {} has {}", index,
           to_string(split_), printable(dataset_.name()), count);
    }
  }
}

size_t BatchFiller::grain() const noexcept {
  // About a millisecond of work: with less, starting a thread costs more than it saves.
  constexpr size_t kMinElemsPerThread = size_t{1} << 20;
  return kMinElemsPerThread / dataset_.shape().num_elems() + 1;
}

void BatchFiller::write_sample(size_t index, const Placement& placement, float* dst) const {
  const auto& [channels, height, width] = dataset_.shape();
  const auto row_elems = static_cast<size_t>(width);
  const size_t first_row = index * static_cast<size_t>(channels) * static_cast<size_t>(height);
  for (int c = 0; c < channels; ++c) {
    for (int y = 0; y < height; ++y, dst += width) {
      const int src_y = y + placement.dy;
      if (src_y < 0 || src_y >= height) {
        std::fill(dst, dst + width, 0.0f);
        continue;
      }
      const size_t at = (first_row + static_cast<size_t>(c * height + src_y)) * row_elems;
      if (table_.empty()) {
        write_row(dataset_.values(split_).data() + at, width, placement.dx, placement.mirror, dst,
                  [](float value) { return value; });
      } else {
        const float* values = &table_[static_cast<size_t>(c) * 256];
        write_row(dataset_.pixels(split_).data() + at, width, placement.dx, placement.mirror, dst,
                  [values](uint8_t pixel) { return values[pixel]; });
      }
    }
  }
}

void BatchFiller::fill(std::span<const int64_t> indices, std::span<float> batch) const {
  const size_t sample_elems = dataset_.shape().num_elems();
  check(indices, batch.size(), indices.size() * sample_elems);
  parallel_for(indices.size(), grain(), threads_, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      write_sample(static_cast<size_t>(indices[i]), {}, &batch[i * sample_elems]);
  });
}

void BatchFiller::fill_augmented(std::span<const int64_t> indices, const Augmentation& augmentation,
                                 const AugmentationKey& key, std::span<float> batch) const {
  const auto& shape = dataset_.shape();
  check(indices, batch.size(), indices.size() * shape.num_elems());
  if (augmentation.pad < 0 || augmentation.pad >= std::min(shape.height, shape.width)) {
    fail(ErrorCode::kInvalidArgument,
         "augmentation cannot pad images of {} by {}: expected at least 0 and less than a side",
         to_string(shape), augmentation.pad);
  }
  const auto offsets = static_cast<uint64_t>(2 * augmentation.pad + 1);
  parallel_for(indices.size(), grain(), threads_, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      Random random(key.seed, stream(Purpose::kAugment, key.epoch, static_cast<uint64_t>(indices[i])));
      Placement placement;
      placement.dy = static_cast<int>(random.below(offsets)) - augmentation.pad;
      placement.dx = static_cast<int>(random.below(offsets)) - augmentation.pad;
      placement.mirror = augmentation.flip && random.below(2) == 1;
      write_sample(static_cast<size_t>(indices[i]), placement, &batch[i * shape.num_elems()]);
    }
  });
}

void BatchFiller::fill_labels(std::span<const int64_t> indices, std::span<int64_t> labels) const {
  check(indices, labels.size(), indices.size());
  const auto all = dataset_.labels(split_);
  std::transform(indices.begin(), indices.end(), labels.begin(),
                 [&](int64_t index) { return all[static_cast<size_t>(index)]; });
}

}  // namespace bitstrata::data
