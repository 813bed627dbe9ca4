#include "kernels/bitplane.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "kernels/families.h"
#include "kernels/parallel.h"

namespace bitstrata::kernels {
namespace {

constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Binary decomposition. run() first splits the codes of all images into bit planes, padded with the code of
/// value 0, each pixel's channels of a group in whole 32-bit words; then it convolves these planes in place:
/// a table holds the offset of every word of the window from its first one.
class BitplaneConv final : public ConvKernel {
 public:
  BitplaneConv(const ConvProblem& problem, std::span<const uint8_t> codes, const BitplaneTarget& target);

  size_t scratch_bytes(int n) const noexcept override {
    return planes_bytes(n) + sums_bytes(n) + threads_ * thread_bytes();
  }
  size_t weight_bytes() const noexcept override {
    return weights_.size() * sizeof(uint32_t) + bias_.size() * sizeof(int32_t);
  }
  std::string implementation() const override { return target_.name; }

  void run(const uint8_t* src, int n, int32_t* acc, void* scratch, int threads) const noexcept override;

 private:
  void pack_weights(std::span<const uint8_t> codes);
  void make_padding();
  size_t planes_bytes(int n) const noexcept { return round_up(n * image_bytes_, 64); }
  size_t sums_bytes(int n) const noexcept {
    return round_up(size_t{1} * n * padded_h_ * padded_w_ * p_.groups * sizeof(int32_t), 64);
  }
  size_t thread_bytes() const noexcept {
    return round_up(size_t{1} * p_.groups * p_.ow * sizeof(int32_t), 64);
  }
  void pad_pixels(uint8_t* row, int32_t* sums, int first, int last) const noexcept;
  void split_row(const uint8_t* src, int y, uint8_t* row, int32_t* sums) const noexcept;
  void window_sums(const int32_t* sums, int y, int32_t* out) const noexcept;
  void convolve_row(const uint8_t* image, const int32_t* window_sums, int y, int32_t* acc, int first_block,
                    int last_block) const noexcept;

  ConvProblem p_;
  BitplaneTarget target_;
  int group_ic_, group_oc_, padded_h_, padded_w_;
  int channel_words_;  ///< words of one group of one pixel
  int words_;          ///< words of the window
  int group_blocks_;   ///< blocks of target_.lanes output channels per group
  size_t threads_;
  size_t pixel_bytes_, plane_bytes_, row_bytes_,
      image_bytes_;                ///< planes: [padded_h][a_bits][padded_w][groups][channel_words]
  std::vector<uint32_t> weights_;  ///< [groups][group_blocks][w_bits][words][lanes]
  std::vector<int32_t> bias_;      ///< [groups][group_blocks * lanes]
  std::vector<size_t> word_offsets_;
  std::vector<uint8_t> pad_pixel_;  ///< [a_bits][pixel_bytes]
};

BitplaneConv::BitplaneConv(const ConvProblem& problem, std::span<const uint8_t> codes,
                           const BitplaneTarget& target)
    : p_(problem), target_(target) {
  const program::Window& w = p_.window;
  group_ic_ = p_.ic / p_.groups;
  group_oc_ = p_.oc / p_.groups;
  padded_h_ = p_.ih + w.pad_top + w.pad_bottom;
  padded_w_ = p_.iw + w.pad_left + w.pad_right;
  channel_words_ = (group_ic_ + 31) / 32;
  words_ = channel_words_ * w.kernel_h * w.kernel_w;
  group_blocks_ = (group_oc_ + target_.lanes - 1) / target_.lanes;
  threads_ = static_cast<size_t>(p_.max_threads > 0 ? p_.max_threads : max_threads());
  pixel_bytes_ = size_t{4} * channel_words_ * p_.groups;
  plane_bytes_ = pixel_bytes_ * padded_w_;
  row_bytes_ = plane_bytes_ * p_.a_bits;
  image_bytes_ = row_bytes_ * padded_h_;
  for (int ky = 0; ky < w.kernel_h; ++ky) {
    for (int kx = 0; kx < w.kernel_w; ++kx) {
      for (int i = 0; i < channel_words_; ++i) {
        word_offsets_.push_back(ky * w.dilation_h * row_bytes_ + kx * w.dilation_w * pixel_bytes_ + 4 * i);
      }
    }
  }
  pack_weights(codes);
  make_padding();
}

void BitplaneConv::pack_weights(std::span<const uint8_t> codes) {
  const int lanes = target_.lanes, taps = p_.window.kernel_h * p_.window.kernel_w;
  weights_.assign(size_t{1} * p_.groups * group_blocks_ * p_.w_bits * words_ * lanes, 0);
  bias_.assign(size_t{1} * p_.groups * group_blocks_ * lanes, 0);
  for (int o = 0; o < p_.oc; ++o) {
    const int group = o / group_oc_, in_group = o % group_oc_;
    const size_t block = size_t{1} * group * group_blocks_ + in_group / lanes;
    const int lane = in_group % lanes;
    uint32_t* out = weights_.data() + block * p_.w_bits * words_ * lanes + lane;
    int64_t sum = 0;
    for (int c = 0; c < group_ic_; ++c) {
      for (int tap = 0; tap < taps; ++tap) {
        const uint32_t u = codes[(size_t{1} * o * group_ic_ + c) * taps + tap];
        sum += u;
        const size_t word = size_t{1} * tap * channel_words_ + c / 32;
        for (int m = 0; m < p_.w_bits; ++m) {
          out[(m * words_ + word) * lanes] |= ((u >> m) & 1u) << (c % 32);
        }
      }
    }
    const int64_t integers = p_.grid.mul * sum + int64_t{p_.grid.offset} * p_.reduction();
    bias_[block * lanes + lane] = static_cast<int32_t>(p_.a_zero * integers);
  }
}

void BitplaneConv::make_padding() {
  pad_pixel_.assign(p_.a_bits * pixel_bytes_, 0);
  const std::vector<uint8_t> codes(group_ic_, static_cast<uint8_t>(-p_.a_zero));
  for (int g = 0; g < p_.groups; ++g) {
    extract_planes_scalar(codes.data(), codes.size(), p_.a_bits,
                          pad_pixel_.data() + size_t{4} * g * channel_words_, pixel_bytes_);
  }
}

void BitplaneConv::pad_pixels(uint8_t* row, int32_t* sums, int first, int last) const noexcept {
  for (int k = 0; k < p_.a_bits; ++k) {
    for (int x = first; x < last; ++x) {
      std::memcpy(row + k * plane_bytes_ + x * pixel_bytes_, pad_pixel_.data() + k * pixel_bytes_,
                  pixel_bytes_);
    }
  }
  std::fill(sums + size_t{1} * first * p_.groups, sums + size_t{1} * last * p_.groups,
            -p_.a_zero * group_ic_);
}

// src: one image; y: row of the padded image.
void BitplaneConv::split_row(const uint8_t* src, int y, uint8_t* row, int32_t* sums) const noexcept {
  const int left = p_.window.pad_left, iy = y - p_.window.pad_top;
  if (iy < 0 || iy >= p_.ih) {
    pad_pixels(row, sums, 0, padded_w_);
    return;
  }
  pad_pixels(row, sums, 0, left);
  pad_pixels(row, sums, left + p_.iw, padded_w_);
  src += size_t{1} * iy * p_.iw * p_.ic;
  row += left * pixel_bytes_;
  sums += size_t{1} * left * p_.groups;
  // Without unused bits in the words, the channels of a whole row are one run of codes.
  const bool dense = group_ic_ % 32 == 0;
  if (dense) target_.extract(src, size_t{1} * p_.iw * p_.ic, p_.a_bits, row, plane_bytes_);
  for (int i = 0; i < p_.iw * p_.groups; ++i, src += group_ic_, row += 4 * channel_words_) {
    if (!dense) target_.extract(src, group_ic_, p_.a_bits, row, plane_bytes_);
    sums[i] = target_.sum(src, group_ic_);
  }
}

// sums: of one padded image; y: output row; out: [groups][ow].
void BitplaneConv::window_sums(const int32_t* sums, int y, int32_t* out) const noexcept {
  const program::Window& w = p_.window;
  for (int g = 0; g < p_.groups; ++g) {
    for (int x = 0; x < p_.ow; ++x) {
      uint32_t total = 0;
      for (int ky = 0; ky < w.kernel_h; ++ky) {
        const int32_t* row =
            sums +
            ((size_t{1} * y * w.stride_h + ky * w.dilation_h) * padded_w_ + x * w.stride_w) * p_.groups + g;
        for (int kx = 0; kx < w.kernel_w; ++kx) {
          total += static_cast<uint32_t>(row[size_t{1} * kx * w.dilation_w * p_.groups]);
        }
      }
      *out++ = static_cast<int32_t>(total);
    }
  }
}

// Blocks [first_block, last_block) of all groups' blocks, counted through.
void BitplaneConv::convolve_row(const uint8_t* image, const int32_t* window_sums, int y, int32_t* acc,
                                int first_block, int last_block) const noexcept {
  const int lanes = target_.lanes;
  const size_t block_words = size_t{1} * p_.w_bits * words_ * lanes;
  for (int begin = first_block; begin < last_block;) {
    const int group = begin / group_blocks_, in_group = begin % group_blocks_;
    const int end = std::min(last_block, (group + 1) * group_blocks_);
    BitplaneRow row{};
    row.weights = weights_.data() + begin * block_words;
    row.planes = image + size_t{1} * y * p_.window.stride_h * row_bytes_ + size_t{4} * group * channel_words_;
    row.pixel_stride_bytes = p_.window.stride_w * pixel_bytes_;
    row.plane_stride_bytes = plane_bytes_;
    row.word_offsets_bytes = word_offsets_.data();
    row.words = words_;
    row.pixels = p_.ow;
    row.blocks = end - begin;
    row.w_bits = p_.w_bits;
    row.a_bits = p_.a_bits;
    row.pixel_sums = window_sums + size_t{1} * group * p_.ow;
    row.bias = bias_.data() + size_t{1} * begin * lanes;
    row.mul = p_.grid.mul;
    row.offset = p_.grid.offset;
    row.out = acc + size_t{1} * group * group_oc_ + in_group * lanes;
    row.out_stride_elems = p_.oc;
    row.channels = std::min(row.blocks * lanes, group_oc_ - in_group * lanes);
    target_.row(row);
    begin = end;
  }
}

void BitplaneConv::run(const uint8_t* src, int n, int32_t* acc, void* scratch, int threads) const noexcept {
  auto* planes = static_cast<uint8_t*>(scratch);
  auto* sums = reinterpret_cast<int32_t*>(planes + planes_bytes(n));
  uint8_t* thread_scratch = planes + planes_bytes(n) + sums_bytes(n);
  const size_t src_elems = size_t{1} * p_.ih * p_.iw * p_.ic, row_sums = size_t{1} * padded_w_ * p_.groups;
  const int team = std::clamp(threads, 1, static_cast<int>(threads_));
  const int64_t padded_rows = int64_t{n} * padded_h_, rows = int64_t{n} * p_.oh;
  const int blocks = p_.groups * group_blocks_;
  // Few rows (a fully connected layer has one): share the output channels too.
  const int parts = rows >= 2 * team ? 1 : std::min(team, blocks);
#pragma omp parallel num_threads(team) if (team > 1)
  {
#pragma omp for
    for (int64_t i = 0; i < padded_rows; ++i) {
      split_row(src + i / padded_h_ * src_elems, static_cast<int>(i % padded_h_), planes + i * row_bytes_,
                sums + i * row_sums);
    }
    auto* window = reinterpret_cast<int32_t*>(thread_scratch + thread_index() * thread_bytes());
#pragma omp for
    for (int64_t i = 0; i < rows * parts; ++i) {
      const int64_t row = i / parts, image = row / p_.oh;
      const int part = static_cast<int>(i % parts), y = static_cast<int>(row % p_.oh);
      window_sums(sums + image * padded_h_ * row_sums, y, window);
      convolve_row(planes + image * image_bytes_, window, y, acc + row * p_.ow * p_.oc,
                   static_cast<int>(int64_t{blocks} * part / parts),
                   static_cast<int>(int64_t{blocks} * (part + 1) / parts));
    }
  }
}

template <Isa kIsa>
BitplaneTarget target() {
  return kIsa == Isa::kScalar ? bitplane_scalar_target() : bitplane_target(kIsa);
}

template <Isa kIsa>
KernelEntry entry(const char* name) {
  return {name, Family::kBitplane, kIsa,
          [](const ConvProblem&, Isa) {
            return target<kIsa>().lanes > 0 ? std::string()
                                            : fmt::format("this CPU or build lacks the bit-plane code for {}",
                                                          kIsa == Isa::kVnni ? "VPOPCNTDQ" : to_string(kIsa));
          },
          [](const ConvProblem& problem, std::span<const uint8_t> codes, Isa) -> std::unique_ptr<ConvKernel> {
            return std::make_unique<BitplaneConv>(problem, codes, target<kIsa>());
          }};
}

}  // namespace

std::vector<KernelEntry> bitplane_entries() {
  return {entry<Isa::kVnni>("conv_bitplane__vpopcntdq"), entry<Isa::kAvx512>("conv_bitplane__avx512"),
          entry<Isa::kAvx2>("conv_bitplane__avx2"), entry<Isa::kNeon>("conv_bitplane__neon"),
          entry<Isa::kScalar>("conv_bitplane__scalar")};
}

}  // namespace bitstrata::kernels
