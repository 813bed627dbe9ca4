#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace bitstrata::data {
namespace {

/// The weights of one axis: output i is the sum over k of weights[i][k] * input[first[i] + k].
struct AxisFilter {
  std::vector<int> first;
  std::vector<std::vector<float>> weights;
};

/// Filter from `in` samples to the centre `out` of `full` samples.
AxisFilter make_filter(int in, int full, int out) {
  const double scale = static_cast<double>(in) / full;
  const double support = std::max(scale, 1.0);
  const int offset = (full - out) / 2;
  AxisFilter filter;
  for (int i = 0; i < out; ++i) {
    const double centre = (i + offset + 0.5) * scale;
    const int begin = std::clamp(static_cast<int>(std::floor(centre - support + 0.5)), 0, in - 1);
    const int end = std::clamp(static_cast<int>(std::floor(centre + support + 0.5)), begin + 1, in);
    std::vector<double> taps;
    double sum = 0.0;
    for (int k = begin; k < end; ++k) {
      taps.push_back(std::max(0.0, 1.0 - std::abs(k + 0.5 - centre) / support));
      sum += taps.back();
    }
    std::vector<float> weights;
    for (const double tap : taps) weights.push_back(static_cast<float>(tap / sum));
    filter.first.push_back(begin);
    filter.weights.push_back(std::move(weights));
  }
  return filter;
}

/// The extent that covers [out_height, out_width] with the aspect ratio of [height, width].
std::pair<int, int> covering_extent(int height, int width, int out_height, int out_width) {
  const auto h = int64_t{height}, w = int64_t{width}, oh = int64_t{out_height}, ow = int64_t{out_width};
  if (h * ow <= w * oh) return {out_height, static_cast<int>(std::max(ow, w * oh / h))};
  return {static_cast<int>(std::max(oh, h * ow / w)), out_width};
}

/// Resizes single planes of one extent; the filters are made once for all planes of an image.
class PlaneResizer {
 public:
  PlaneResizer(int height, int width, int out_height, int out_width) : width_(width), out_width_(out_width) {
    const auto [full_height, full_width] = covering_extent(height, width, out_height, out_width);
    vertical_ = make_filter(height, full_height, out_height);
    horizontal_ = make_filter(width, full_width, out_width);
    first_row_ = vertical_.first.front();
    const int end_row = vertical_.first.back() + static_cast<int>(vertical_.weights.back().size());
    rows_.resize(static_cast<size_t>(end_row - first_row_) * static_cast<size_t>(out_width));
  }

  void resize(const uint8_t* src, uint8_t* dst) {
    const auto out_width = static_cast<size_t>(out_width_);
    for (size_t y = 0; y < rows_.size() / out_width; ++y) {
      filter_row(src + (static_cast<size_t>(first_row_) + y) * static_cast<size_t>(width_),
                 &rows_[y * out_width]);
    }
    std::vector<float> sums(out_width);
    for (size_t y = 0; y < vertical_.first.size(); ++y) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      const float* row = &rows_[static_cast<size_t>(vertical_.first[y] - first_row_) * out_width];
      for (const float weight : vertical_.weights[y]) {
        for (size_t x = 0; x < out_width; ++x) sums[x] += weight * row[x];
        row += out_width;
      }
      for (size_t x = 0; x < out_width; ++x) {
        dst[y * out_width + x] = static_cast<uint8_t>(std::clamp(sums[x] + 0.5f, 0.0f, 255.0f));
      }
    }
  }

 private:
  void filter_row(const uint8_t* src, float* dst) const {
    for (size_t x = 0; x < horizontal_.first.size(); ++x) {
      const uint8_t* taps = src + horizontal_.first[x];
      float sum = 0.0f;
      for (const float weight : horizontal_.weights[x]) sum += weight * static_cast<float>(*taps++);
      dst[x] = sum;
    }
  }

  int width_, out_width_, first_row_ = 0;
  AxisFilter vertical_, horizontal_;
  std::vector<float> rows_;  // the source rows that the crop needs, filtered horizontally
};

std::vector<uint8_t> to_grey(const uint8_t* rgb, size_t plane_elems) {
  std::vector<uint8_t> grey(plane_elems);
  const uint8_t *r = rgb, *g = rgb + plane_elems, *b = rgb + 2 * plane_elems;
  for (size_t i = 0; i < plane_elems; ++i) {
    grey[i] = static_cast<uint8_t>((299 * r[i] + 587 * g[i] + 114 * b[i] + 500) / 1000);
  }
  return grey;
}

}  // namespace

bool can_convert_channels(int from, int to) noexcept {
  return from == to || (from == 1 && to == 3) || (from == 3 && to == 1);
}

void fit_image(const uint8_t* src, const ImageShape& from, uint8_t* dst, const ImageShape& to) {
  const size_t src_plane = from.num_elems() / static_cast<size_t>(from.channels);
  const size_t dst_plane = to.num_elems() / static_cast<size_t>(to.channels);
  std::vector<uint8_t> grey;
  int planes = from.channels;
  if (from.channels == 3 && to.channels == 1) {
    grey = to_grey(src, src_plane);
    src = grey.data();
    planes = 1;
  }
  if (from.height == to.height && from.width == to.width) {
    std::memcpy(dst, src, static_cast<size_t>(planes) * src_plane);
  } else {
    PlaneResizer resizer(from.height, from.width, to.height, to.width);
    for (size_t c = 0; c < static_cast<size_t>(planes); ++c)
      resizer.resize(src + c * src_plane, dst + c * dst_plane);
  }
  if (planes == 1) {
    for (size_t c = 1; c < static_cast<size_t>(to.channels); ++c)
      std::memcpy(dst + c * dst_plane, dst, dst_plane);
  }
}

ImageShape resolve_shape(const ImageShape& wanted, const ImageShape& found, const std::string& where) {
  const auto in_range = [](int extent) { return extent >= 0 && extent <= kMaxImageSide; };
  if (!in_range(wanted.channels) || !in_range(wanted.height) || !in_range(wanted.width) ||
      (wanted.height == 0) != (wanted.width == 0)) {
    fail(ErrorCode::kInvalidArgument,
         "cannot make images of {} (channels x height x width): expected 0 to {} each, and "
         "height and width both given or both 0",
         to_string(wanted), kMaxImageSide);
  }
  ImageShape shape = found;
  if (wanted.channels != 0) shape.channels = wanted.channels;
  if (wanted.height != 0) shape.height = wanted.height, shape.width = wanted.width;
  if (!can_convert_channels(found.channels, shape.channels)) {
    fail(ErrorCode::kBadInput,
         "{} has {} channels, the network expects {}; only grey and colour (1 and 3) are converted",
         printable(where), found.channels, shape.channels);
  }
  return shape;
}

}  // namespace bitstrata::data
