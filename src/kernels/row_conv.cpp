#include "kernels/row_conv.h"

#include <algorithm>
#include <cstring>

#include "kernels/aligned.h"
#include "kernels/parallel.h"

namespace bitstrata::kernels {
namespace {

constexpr size_t kSlack = 64;

constexpr size_t round_up(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

class RowConv final : public ConvKernel {
 public:
  RowConv(const ConvProblem& problem, std::unique_ptr<RowKernel> kernel);

  size_t scratch_bytes(int) const noexcept override { return p_.max_threads * thread_bytes_; }
  size_t weight_bytes() const noexcept override { return kernel_->weight_bytes(); }
  std::string implementation() const override { return kernel_->implementation(); }
  bool streams() const noexcept override { return true; }

  void run(const uint8_t* src, int n, int32_t* acc, void* scratch, int threads) const noexcept override {
    run(src, n, {acc, nullptr, nullptr}, static_cast<uint8_t*>(scratch), threads);
  }
  void stream(const uint8_t* src, int n, const PixelSink& sink, void* scratch,
              int threads) const noexcept override {
    run(src, n, {nullptr, nullptr, &sink}, static_cast<uint8_t*>(scratch), threads);
  }
  bool fuse(const Requantization& end) override { return kernel_->fuse(end); }
  void run_codes(const uint8_t* src, int n, uint8_t* codes, void* scratch,
                 int threads) const noexcept override {
    run(src, n, {nullptr, codes, nullptr}, static_cast<uint8_t*>(scratch), threads);
  }

 private:
  /// The scratch of one thread.
  struct Workspace {
    uint8_t* codes;        ///< one padded row
    uint8_t* ring;         ///< [slots][row]
    int64_t* tags;         ///< [slots]: image * padded_h + y of the prepared row in a slot, or -1
    const uint8_t** rows;  ///< [band_rows][kernel_h]
    uint8_t* scratch;      ///< of the kernel
    int32_t* acc;          ///< [band_rows][ow][oc]
  };

  /// Where outputs go: one of these.
  struct Target {
    int32_t* acc;
    uint8_t* codes;
    const PixelSink* sink;
  };

  void run(const uint8_t* src, int n, const Target& target, uint8_t* scratch, int threads) const noexcept;
  int choose_band_rows() const noexcept;
  Workspace workspace(uint8_t* thread_scratch) const noexcept;
  const uint8_t* prepared_row(const Workspace& work, const uint8_t* image, int64_t image_index,
                              int y) const noexcept;
  RowBand gather(const Workspace& work, const uint8_t* src, int64_t band, const Target& target,
                 int32_t* own) const noexcept;
  void pad_row(const uint8_t* src, uint8_t* codes) const noexcept;
  int64_t first_pixel(int64_t band) const noexcept { return band % bands_ * band_rows_ * p_.ow; }
  void hand_on(const RowBand& band, int64_t index, const PixelSink& sink, int thread) const noexcept {
    sink.take(sink.self, static_cast<int>(index / bands_), first_pixel(index), band.count * p_.ow, band.acc,
              thread);
  }

  ConvProblem p_;
  std::unique_ptr<RowKernel> kernel_;
  int padded_w_;
  int band_rows_, slots_;
  int64_t bands_;  ///< per image
  size_t row_bytes_, codes_bytes_, tags_bytes_, pointers_bytes_, kernel_bytes_, acc_bytes_, thread_bytes_;
  LineVector<uint8_t> padding_;  ///< prepared row of padding
};

RowConv::RowConv(const ConvProblem& problem, std::unique_ptr<RowKernel> kernel)
    : p_(problem), kernel_(std::move(kernel)) {
  const program::Window& w = p_.window;
  if (p_.max_threads == 0) p_.max_threads = max_threads();
  padded_w_ = p_.iw + w.pad_left + w.pad_right;
  band_rows_ = choose_band_rows();
  bands_ = (p_.oh + band_rows_ - 1) / band_rows_;
  slots_ = (band_rows_ - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1;
  row_bytes_ = round_up(kernel_->row_bytes() + kSlack);
  codes_bytes_ = round_up(size_t{1} * padded_w_ * p_.ic + kSlack);
  tags_bytes_ = round_up(slots_ * sizeof(int64_t));
  pointers_bytes_ = round_up(size_t{1} * band_rows_ * w.kernel_h * sizeof(uint8_t*));
  kernel_bytes_ = round_up(kernel_->scratch_bytes(band_rows_));
  acc_bytes_ = round_up(size_t{1} * band_rows_ * p_.ow * p_.oc * sizeof(int32_t));
  thread_bytes_ =
      codes_bytes_ + slots_ * row_bytes_ + tags_bytes_ + pointers_bytes_ + kernel_bytes_ + acc_bytes_;

  std::vector<uint8_t> codes(codes_bytes_, static_cast<uint8_t>(-p_.a_zero));
  padding_.resize(row_bytes_);
  kernel_->prepare(codes.data(), padding_.data());
}

// Every thread gets a band of each image where that is possible, or else a share of its channels.
int RowConv::choose_band_rows() const noexcept {
  const int rows = (kernel_->band_pixels() + p_.ow - 1) / p_.ow, multiple = kernel_->row_multiple();
  const int threads = p_.max_threads;
  if (threads > 1 && kernel_->shares_channels() && 2 * rows >= p_.oh && kernel_->blocks() >= threads)
    return p_.oh;
  const int share = (p_.oh + threads - 1) / threads;
  const int least = (std::min(rows, share) + multiple - 1) / multiple * multiple;
  // Larger ones where threads then have more even shares of them.
  const auto most_rows = [&](int band) {
    return std::min((p_.oh + band * threads - 1) / (band * threads) * band, p_.oh);
  };
  int best = least;
  for (int band = least; band <= 2 * least; band += multiple) {
    if (most_rows(band) < most_rows(best)) best = band;
  }
  return std::min(best, p_.oh);
}

RowConv::Workspace RowConv::workspace(uint8_t* at) const noexcept {
  const auto take = [&at](size_t bytes) {
    uint8_t* part = at;
    at += bytes;
    return part;
  };
  Workspace work{};
  work.codes = take(codes_bytes_);
  work.ring = take(slots_ * row_bytes_);
  work.tags = reinterpret_cast<int64_t*>(take(tags_bytes_));
  work.rows = reinterpret_cast<const uint8_t**>(take(pointers_bytes_));
  work.scratch = take(kernel_bytes_);
  work.acc = reinterpret_cast<int32_t*>(take(acc_bytes_));
  std::fill_n(work.tags, slots_, -1);
  return work;
}

void RowConv::pad_row(const uint8_t* src, uint8_t* codes) const noexcept {
  const size_t left = size_t{1} * p_.window.pad_left * p_.ic, row = size_t{1} * p_.iw * p_.ic;
  const size_t right = size_t{1} * p_.window.pad_right * p_.ic;
  std::memset(codes, -p_.a_zero, left);
  std::memcpy(codes + left, src, row);
  std::memset(codes + left + row, -p_.a_zero, right);
}

// y: row of the padded image.
const uint8_t* RowConv::prepared_row(const Workspace& work, const uint8_t* image, int64_t image_index,
                                     int y) const noexcept {
  const int iy = y - p_.window.pad_top;
  if (iy < 0 || iy >= p_.ih) return padding_.data();
  const uint8_t* codes = image + size_t{1} * iy * p_.iw * p_.ic;
  const int slot = y % slots_;
  uint8_t* row = work.ring + slot * row_bytes_;
  const int64_t tag = image_index * (int64_t{p_.ih} + p_.window.pad_top) + y;
  if (work.tags[slot] != tag) {
    pad_row(codes, work.codes);
    kernel_->prepare(work.codes, row);
    work.tags[slot] = tag;
  }
  return row;
}

// own: where the accumulators of one band go that are handed on.
RowBand RowConv::gather(const Workspace& work, const uint8_t* src, int64_t band, const Target& target,
                        int32_t* own) const noexcept {
  const program::Window& w = p_.window;
  const int64_t image = band / bands_;
  const int first = static_cast<int>(band % bands_) * band_rows_;
  const int count = std::min(band_rows_, p_.oh - first);
  const uint8_t* from = src + size_t(image) * p_.ih * p_.iw * p_.ic;
  // Row ky of a window lies under row ky + shared of the one above.
  const int shared = w.stride_h % w.dilation_h == 0 ? w.stride_h / w.dilation_h : w.kernel_h;
  for (int i = 0; i < count; ++i) {
    const uint8_t** rows = work.rows + size_t{1} * i * w.kernel_h;
    for (int ky = 0; ky < w.kernel_h; ++ky) {
      rows[ky] = i > 0 && ky + shared < w.kernel_h
                     ? rows[ky + shared - w.kernel_h]
                     : prepared_row(work, from, image, (first + i) * w.stride_h + ky * w.dilation_h);
    }
  }
  const size_t elem = (size_t(image) * p_.oh * p_.ow + first_pixel(band)) * p_.oc;
  if (target.codes != nullptr) return {work.rows, count, nullptr, target.codes + elem, padding_.data()};
  return {work.rows, count, target.sink != nullptr ? own : target.acc + elem, nullptr, padding_.data()};
}

void RowConv::run(const uint8_t* src, int n, const Target& target, uint8_t* scratch,
                  int threads) const noexcept {
  const int team = std::clamp(threads, 1, p_.max_threads);
  const int64_t total = n * bands_;
  // Fewer bands than threads (a fully connected layer has one): share the output channels instead.
  if (total < team) {
    int32_t* shared = workspace(scratch).acc;
    for (int64_t i = 0; i < total; ++i) {
      RowBand whole{};
#pragma omp parallel num_threads(team) if (team > 1)
      {
        const int thread = thread_index(), threads_here = team_size();
        const Workspace work = workspace(scratch + thread * thread_bytes_);
        const RowBand band = gather(work, src, i, target, shared);
        const auto edge = [&](int part) {
          return static_cast<int>(int64_t{kernel_->blocks()} * part / threads_here);
        };
        if (edge(thread) < edge(thread + 1))
          kernel_->compute(band, edge(thread), edge(thread + 1), work.scratch);
        if (thread == 0) whole = band;
      }
      if (target.sink != nullptr) hand_on(whole, i, *target.sink, 0);
    }
    return;
  }
#pragma omp parallel num_threads(team) if (team > 1)
  {
    const int thread = thread_index(), threads_here = team_size();
    const Workspace work = workspace(scratch + thread * thread_bytes_);
    const int64_t last = total * (thread + 1) / threads_here;
    for (int64_t i = total * thread / threads_here; i < last; ++i) {
      const RowBand band = gather(work, src, i, target, work.acc);
      kernel_->compute(band, 0, kernel_->blocks(), work.scratch);
      if (target.sink != nullptr) hand_on(band, i, *target.sink, thread);
    }
  }
}

}  // namespace

std::unique_ptr<ConvKernel> make_row_conv(const ConvProblem& problem, std::unique_ptr<RowKernel> kernel) {
  return std::make_unique<RowConv>(problem, std::move(kernel));
}

}  // namespace bitstrata::kernels
