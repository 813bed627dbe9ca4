#include "kernels/bitplane.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "kernels/families.h"
#include "kernels/row_conv.h"

namespace bitstrata::kernels {
namespace {

constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Binary decomposition. A prepared row holds its codes split into bit planes,
/// [a_bits][groups][padded_w][pixel_bytes_] with a group's channels of a pixel in whole bytes, and behind
/// them the sum of the codes of every pixel, [groups][padded_w]. What a window covers of a row is one run of
/// bytes per group where taps are neighbours, one per tap otherwise; runs are cut into words of 32 bits, the
/// bits behind a run's end meeting weights of 0.
///
/// Where a pixel fills its words, bits that differ can be counted instead of bits in common, which takes
/// fewer instructions, and for odd grids no sums of codes. It says the same: 2 uv = u + v - (u xor v) for
/// bits, so that 2 sum uv = (2^A - 1) sum u + (2^W - 1) sum v - sum 2^(m + k) popcount(u_m ^ v_k) over all
/// planes.
class BitplaneKernel final : public RowKernel {
 public:
  BitplaneKernel(const ConvProblem& problem, std::span<const uint8_t> codes, const BitplaneTarget& target);

  size_t row_bytes() const noexcept override { return sums_at_ + sums_bytes() + spread_bytes(); }
  void prepare(const uint8_t* codes, uint8_t* row) const noexcept override;
  int blocks() const noexcept override { return p_.groups * group_blocks_; }
  void compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept override;
  size_t scratch_bytes(int rows) const noexcept override {
    return words_bytes(rows) + corrections_bytes(rows) + padded_w_ * sizeof(int32_t);
  }
  size_t weight_bytes() const noexcept override {
    return weights_.size() * sizeof(uint32_t) + bias_.size() * sizeof(int32_t);
  }
  std::string implementation() const override { return target_.name; }

 private:
  void pack_weights(std::span<const uint8_t> codes);
  const uint8_t* spread(const uint8_t* codes, uint8_t* out) const noexcept;
  void locate_words(const uint8_t* const* rows, const uint8_t** words) const noexcept;
  void correct(const uint8_t* const* rows, int32_t* columns, int32_t* out) const noexcept;

  /// True when a prepared row's bits are those of the codes as they come.
  bool dense() const noexcept { return p_.groups == 1 && group_ic_ % 8 == 0; }
  bool pairs() const noexcept { return differing_ && target_.differing == Differing::kPairs; }
  size_t sums_bytes() const noexcept {
    return correction_ == 0 ? 0 : round_up(pixels_ * sizeof(int32_t), 64);
  }
  size_t spread_bytes() const noexcept { return dense() ? 0 : round_up(pixels_ * pixel_bytes_ * 8, 64); }
  size_t words_bytes(int rows) const noexcept {
    return round_up(size_t{1} * rows * words_ * sizeof(uint8_t*), 64);
  }
  size_t corrections_bytes(int rows) const noexcept {
    return round_up(size_t{1} * rows * p_.groups * p_.ow * sizeof(int32_t), 64);
  }

  ConvProblem p_;
  BitplaneTarget target_;
  int group_ic_, group_oc_, padded_w_;
  int row_taps_;      ///< taps of one row of the window that one run holds
  int row_runs_;      ///< runs of one row of the window
  int run_words_;     ///< words of a run
  int words_;         ///< words of the window
  int group_blocks_;  ///< blocks of target_.lanes output channels per group
  bool differing_;
  int correction_;  ///< what a code in the window adds to BitplaneRow::corrections
  int tile_pixels_;
  size_t pixel_bytes_, pixels_;    ///< of one group; pixels of all groups in a row
  size_t plane_bytes_, sums_at_;   ///< in a prepared row
  std::vector<uint32_t> weights_;  ///< [groups][group_blocks][w_bits][words][lanes]
  std::vector<int32_t> bias_;      ///< [groups][group_blocks * lanes]
};

/// Counting differing bits gives 2y where mul is 1, which must be an int32 too.
bool counts_differing(const ConvProblem& p, const BitplaneTarget& target) {
  const int64_t max_weight = std::max(std::abs(p.grid.at(0)), std::abs(p.grid.at((1 << p.w_bits) - 1)));
  const int64_t max_value = std::max(-p.a_zero, (1 << p.a_bits) - 1 + p.a_zero);
  const int full_bits = target.differing == Differing::kPairs ? 64 : 32;
  return target.differing != Differing::kNot && p.ic / p.groups % full_bits == 0 &&
         (p.grid.mul == 2 || max_weight * max_value * p.reduction() < int64_t{1} << 30);
}

/// The width that covers a row with the least work; the last tile may overlap the one before.
int choose_tile_pixels(int pixels, int most) {
  const auto work = [pixels](int width) { return (pixels + width - 1) / width * width; };
  int best = std::min(pixels, most);
  for (int width = best - 1; 2 * width >= most; --width) {
    if (work(width) < work(best)) best = width;
  }
  return best;
}

BitplaneKernel::BitplaneKernel(const ConvProblem& problem, std::span<const uint8_t> codes,
                               const BitplaneTarget& target)
    : p_(problem), target_(target) {
  const program::Window& w = p_.window;
  group_ic_ = p_.ic / p_.groups;
  group_oc_ = p_.oc / p_.groups;
  padded_w_ = p_.iw + w.pad_left + w.pad_right;
  row_taps_ = w.dilation_w == 1 ? w.kernel_w : 1;
  row_runs_ = w.kernel_w / row_taps_;
  pixel_bytes_ = round_up(group_ic_, 8) / 8;
  pixels_ = size_t{1} * padded_w_ * p_.groups;
  run_words_ = static_cast<int>(round_up(row_taps_ * pixel_bytes_, 4) / 4);
  words_ = w.kernel_h * row_runs_ * run_words_;
  group_blocks_ = (group_oc_ + target_.lanes - 1) / target_.lanes;
  differing_ = counts_differing(p_, target_);
  correction_ = differing_ ? (1 << p_.w_bits) - 1 + 2 / p_.grid.mul * p_.grid.offset : p_.grid.offset;
  tile_pixels_ = choose_tile_pixels(p_.ow, target_.tile_pixels);
  plane_bytes_ = round_up(pixels_ * pixel_bytes_, 8);
  sums_at_ = round_up(plane_bytes_ * p_.a_bits + 8, 64);
  pack_weights(codes);
}

void BitplaneKernel::pack_weights(std::span<const uint8_t> codes) {
  const program::Window& w = p_.window;
  const int lanes = target_.lanes, taps = w.kernel_h * w.kernel_w;
  weights_.assign(size_t{1} * blocks() * p_.w_bits * words_ * lanes, 0);
  bias_.assign(size_t{1} * blocks() * lanes, 0);
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
        const size_t run = tap / row_taps_, bit = tap % row_taps_ * pixel_bytes_ * 8 + c;
        const size_t word = run * run_words_ + bit / 32;
        for (int m = 0; m < p_.w_bits; ++m) {
          out[(m * words_ + word) * lanes] |= ((u >> m) & 1u) << (bit % 32);
        }
      }
    }
    int64_t bias = p_.a_zero * (p_.grid.mul * sum + int64_t{p_.grid.offset} * p_.reduction());
    if (differing_) {
      bias = 2 / p_.grid.mul * bias + ((1 << p_.a_bits) - 1) * sum;
    }
    if (pairs()) {
      for (int i = 0; i < p_.w_bits * words_; i += 2) out[(i + 1) * lanes] ^= out[i * lanes];
    }
    bias_[block * lanes + lane] = static_cast<int32_t>(bias);
  }
}

// Codes in the order of the prepared row's bits, [groups][padded_w][8 * pixel_bytes_].
const uint8_t* BitplaneKernel::spread(const uint8_t* codes, uint8_t* out) const noexcept {
  if (dense()) return codes;
  const size_t bits = pixel_bytes_ * 8;
  std::memset(out, 0, pixels_ * bits);
  for (int g = 0; g < p_.groups; ++g) {
    for (int x = 0; x < padded_w_; ++x, out += bits) {
      std::memcpy(out, codes + size_t{1} * x * p_.ic + g * group_ic_, group_ic_);
    }
  }
  return out - pixels_ * bits;
}

// Makes every second word its exclusive or with the word before.
void pair_words(uint8_t* planes, size_t bytes) noexcept {
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t words;
    std::memcpy(&words, planes + i, sizeof words);
    words ^= words << 32;
    std::memcpy(planes + i, &words, sizeof words);
  }
}

void BitplaneKernel::prepare(const uint8_t* codes, uint8_t* row) const noexcept {
  const uint8_t* ordered = spread(codes, row + sums_at_ + sums_bytes());
  target_.extract(ordered, pixels_ * pixel_bytes_ * 8, p_.a_bits, row, plane_bytes_);
  if (correction_ != 0) {
    target_.sums(row, plane_bytes_, p_.a_bits, pixel_bytes_, pixels_,
                 reinterpret_cast<int32_t*>(row + sums_at_));
  }
  if (pairs()) pair_words(row, plane_bytes_ * p_.a_bits);
}

// rows: [kernel_h] of one output row; words: [words_], of the first pixel of the first group.
void BitplaneKernel::locate_words(const uint8_t* const* rows, const uint8_t** words) const noexcept {
  const program::Window& w = p_.window;
  for (int ky = 0; ky < w.kernel_h; ++ky) {
    for (int run = 0; run < row_runs_; ++run) {
      const uint8_t* at = rows[ky] + run * w.dilation_w * pixel_bytes_;
      for (int i = 0; i < run_words_; ++i) *words++ = at + 4 * i;
    }
  }
}

// What the codes in the window add to each output pixel, out: [groups][ow]; columns: [padded_w]. Sizes are
// local so that the compiler knows that storing sums leaves them alone.
void BitplaneKernel::correct(const uint8_t* const* rows, int32_t* columns, int32_t* out) const noexcept {
  const int groups = p_.groups, width = padded_w_, ow = p_.ow, kernel_h = p_.window.kernel_h,
            kernel_w = p_.window.kernel_w, stride = p_.window.stride_w, dilation = p_.window.dilation_w;
  const auto factor = static_cast<uint32_t>(correction_);
  if (factor == 0) {
    std::fill_n(out, size_t{1} * groups * ow, 0);
    return;
  }
  for (int g = 0; g < groups; ++g, out += ow) {
    std::fill_n(columns, width, 0);
    for (int ky = 0; ky < kernel_h; ++ky) {
      const auto* sums = reinterpret_cast<const int32_t*>(rows[ky] + sums_at_) + size_t{1} * g * width;
      for (int x = 0; x < width; ++x) columns[x] += sums[x];
    }
    std::fill_n(out, ow, 0);
    for (int kx = 0; kx < kernel_w; ++kx) {
      const int32_t* column = columns + kx * dilation;
      if (stride == 1) {
        for (int x = 0; x < ow; ++x) out[x] += column[x];
      } else {
        for (int x = 0; x < ow; ++x) out[x] += column[x * stride];
      }
    }
    for (int x = 0; x < ow; ++x) out[x] = static_cast<int32_t>(static_cast<uint32_t>(out[x]) * factor);
  }
}

void BitplaneKernel::compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept {
  const int lanes = target_.lanes, kernel_h = p_.window.kernel_h;
  auto** words = reinterpret_cast<const uint8_t**>(scratch);
  auto* corrections = reinterpret_cast<int32_t*>(scratch + words_bytes(band.count));
  const size_t row_corrections = size_t{1} * p_.groups * p_.ow;
  auto* columns =
      reinterpret_cast<int32_t*>(scratch + words_bytes(band.count) + corrections_bytes(band.count));
  for (int i = 0; i < band.count; ++i) {
    locate_words(band.rows + i * kernel_h, words + size_t{1} * i * words_);
    correct(band.rows + i * kernel_h, columns, corrections + i * row_corrections);
  }
  for (int block = first, end; block < last; block = end) {
    const int group = block / group_blocks_, in_group = block % group_blocks_;
    end = std::min({last, (group + 1) * group_blocks_, block + target_.tile_blocks});
    BitplaneRow row{};
    row.weights = weights_.data() + size_t{1} * block * p_.w_bits * words_ * lanes;
    row.offset_bytes = group * padded_w_ * pixel_bytes_;
    row.pixel_stride_bytes = p_.window.stride_w * pixel_bytes_;
    row.plane_stride_bytes = plane_bytes_;
    row.word_count = words_;
    row.pixels = p_.ow;
    row.blocks = end - block;
    row.tile_pixels = tile_pixels_;
    row.w_bits = p_.w_bits;
    row.a_bits = p_.a_bits;
    row.mul = p_.grid.mul;
    row.differing = differing_;
    row.bias = bias_.data() + size_t{1} * block * lanes;
    row.out_stride_elems = p_.oc;
    row.channels = std::min(row.blocks * lanes, group_oc_ - in_group * lanes);
    for (int i = 0; i < band.count; ++i) {
      row.words = words + size_t{1} * i * words_;
      row.corrections = corrections + i * row_corrections + size_t{1} * group * p_.ow;
      row.out = band.acc + size_t{1} * i * p_.ow * p_.oc + size_t{1} * group * group_oc_ + in_group * lanes;
      target_.row(row);
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
            return make_row_conv(problem, std::make_unique<BitplaneKernel>(problem, codes, target<kIsa>()));
          }};
}

}  // namespace

std::vector<KernelEntry> bitplane_entries() {
  return {entry<Isa::kVnni>("conv_bitplane__vpopcntdq"), entry<Isa::kAvx512>("conv_bitplane__avx512"),
          entry<Isa::kAvx2>("conv_bitplane__avx2"), entry<Isa::kNeon>("conv_bitplane__neon"),
          entry<Isa::kScalar>("conv_bitplane__scalar")};
}

}  // namespace bitstrata::kernels
