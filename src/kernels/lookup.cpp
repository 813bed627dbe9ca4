#include "kernels/lookup.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "kernels/families.h"
#include "kernels/row_conv.h"

namespace bitstrata::kernels {
namespace {

constexpr int kMaxWeightBits = 4, kMaxActivationBits = 6;

/// As many as are read in vectors behind the last one.
constexpr int kSpareChannels = 64;

constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Output channels whose planes are looked up together.
struct Strip {
  size_t indices;  ///< in LookupConv::indices_
  int group, channel, channels, vectors;
  int plane;  ///< first of one or two
  bool two_planes;
};

/// A prepared row is [groups][tables of a group][phases][pixels] tables, then int32 sums of codes:
/// [groups][ow] of the window's columns, behind them [phases][pixels] of single pixels, needed in between.
/// Phase p of stride s has the pixels p, p + s, p + 2s, ..., so that tables of consecutive output pixels are
/// neighbours. Where tables are of pairs of pixels (lookup.h), the first ones are the left half of the row,
/// and the second ones the right half; in a row of odd length both have the pixel in the middle.
class LookupConv final : public RowKernel {
 public:
  LookupConv(const ConvProblem& problem, std::span<const uint8_t> codes, const LookupTarget& target);

  size_t row_bytes() const noexcept override { return sums_offset_ + sums_count() * sizeof(int32_t); }
  size_t weight_bytes() const noexcept override {
    return indices_.size() + bias_.size() * sizeof(int32_t) + (mul_.size() + add_.size()) * sizeof(float);
  }
  std::string implementation() const override { return target_.name; }
  int blocks() const noexcept override { return static_cast<int>(blocks_.size()) - 1; }
  size_t scratch_bytes(int) const noexcept override {
    return pointers_bytes() + round_up(p_.ow * sizeof(int32_t), 64) +
           (at_once_ ? p_.ow * sums_stride_ * sizeof(uint16_t) + 64 : 0);
  }
  void prepare(const uint8_t* codes, uint8_t* row) const noexcept override;
  void compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept override;
  bool fuse(const Requantization& end) override;

 private:
  size_t pointers_bytes() const noexcept { return round_up(steps_ * sizeof(const uint8_t*), 64); }
  size_t sums_count() const noexcept {
    return size_t{1} * p_.groups * p_.ow + phases_.size() * phase_pixels_;
  }
  int largest_entry() const noexcept { return kTableCodes * ((1 << p_.a_bits) - 1); }
  void choose_pairs();
  void choose_flush();
  bool fits_bytes(const Strip& strip, int steps) const;
  void choose_layout();
  void make_strips();
  void pack(const Strip& strip, std::span<const uint8_t> codes);
  void make_bias(std::span<const uint8_t> codes);
  void find_tables(const uint8_t* const* rows, int group, const uint8_t** tables) const noexcept;
  void window_sums(const uint8_t* const* rows, int group, int32_t* sums) const noexcept;
  void compute_row(const uint8_t* const* tables, const int32_t* base, size_t first, size_t last,
                   uint16_t* sums, int32_t* out) const noexcept;
  void finish_row(const uint16_t* sums, const int32_t* base, size_t first, size_t last, const RowBand& band,
                  int row) const noexcept;

  ConvProblem p_;
  LookupTarget target_;
  int group_ic_, group_oc_;
  int group_tables_;    ///< of a pixel
  int steps_;           ///< tables of a group in the window, padded
  int half_steps_ = 0;  ///< see LookupTile
  int first_pixels_;    ///< of an output row: the first ones of pairs, or all
  int second_ = 0;      ///< see LookupTile
  bool across_pixels_;  ///< see LookupTile
  int index_bytes_;     ///< of a vector
  int vectors_;         ///< of a whole strip
  bool at_once_;        ///< a pixel's sums are complete after one tile
  int steps_at_once_, flush_steps_;
  int widen_steps_[2];  ///< of one plane and of two
  int phase_pixels_, phase_tables_;
  size_t tables_stride_;  ///< bytes between the tables of the same pixel
  size_t sums_offset_;
  size_t sums_stride_ = 0;   ///< elements of the sums of a pixel, where these are complete after one tile
  std::vector<int> phases_;  ///< the phases that the window needs
  struct Tap {
    int phase, pixel;
  };
  std::vector<Tap> taps_;  ///< [kernel_w]
  std::vector<Strip> strips_;
  std::vector<size_t> blocks_;    ///< [blocks + 1]: first strip; a block is of one group
  std::vector<uint8_t> indices_;  ///< [strips][steps][vectors][index_bytes]
  std::vector<int32_t> bias_;     ///< [oc + kSpareChannels]
  std::vector<float> mul_, add_;  ///< as bias_, with fuse()
  float inverse_ = 1;
  int max_code_ = 0;
};

LookupConv::LookupConv(const ConvProblem& problem, std::span<const uint8_t> codes, const LookupTarget& target)
    : p_(problem), target_(target) {
  const program::Window& w = p_.window;
  group_ic_ = p_.ic / p_.groups;
  group_oc_ = p_.oc / p_.groups;
  group_tables_ = (group_ic_ + kTableCodes - 1) / kTableCodes;
  choose_pairs();
  phase_pixels_ = (p_.iw + w.pad_left + w.pad_right + w.stride_w - 1) / w.stride_w;
  for (int kx = 0; kx < w.kernel_w; ++kx) {
    const int phase = kx * w.dilation_w % w.stride_w;
    const auto at = std::find(phases_.begin(), phases_.end(), phase);
    taps_.push_back({static_cast<int>(at - phases_.begin()), kx * w.dilation_w / w.stride_w});
    if (at == phases_.end()) phases_.push_back(phase);
  }
  phase_tables_ = phase_pixels_ - second_;
  tables_stride_ = size_t{kTableBytes} * phases_.size() * phase_tables_;
  sums_offset_ = tables_stride_ * p_.groups * group_tables_;
  choose_layout();
  make_strips();
  if (at_once_) sums_stride_ = round_up(group_oc_, target_.lanes);
  for (const Strip& strip : strips_) pack(strip, codes);
  choose_flush();
  make_bias(codes);
}

// Pairs where half an entry holds a sum and pixels are finished at once: the one in the middle, which may be
// in two pairs, must not be added to twice.
void LookupConv::choose_pairs() {
  const size_t steps = size_t{1} * group_tables_ * p_.window.kernel_h * p_.window.kernel_w;
  const auto lay_out = [&](int at_once) {
    steps_ = static_cast<int>(round_up(steps, at_once));
    steps_at_once_ = at_once;
    for (int planes : {1, 2}) widen_steps_[planes - 1] = 65535 / (largest_entry() * ((1 << planes) - 1));
    at_once_ = p_.w_bits <= 2 && steps_ <= widen_steps_[p_.w_bits - 1];
  };
  first_pixels_ = p_.ow;
  if (p_.ow > 1 && largest_entry() <= kHalfEntry) {
    half_steps_ = kHalfEntry / largest_entry();
    lay_out(kPairSteps);
    if (at_once_) {
      second_ = p_.ow / 2;
      first_pixels_ = p_.ow - second_;
      return;
    }
    half_steps_ = 0;
  }
  lay_out(kStepsAtOnce);
}

// True when the entries of any `steps` steps that are added up together fit a byte, in all lanes of the
// strip.
bool LookupConv::fits_bytes(const Strip& strip, int steps) const {
  const int lanes = strip.vectors * index_bytes_, codes = 255 / ((1 << p_.a_bits) - 1);
  const uint8_t* index = indices_.data() + strip.indices;
  std::vector<int> sums(lanes);
  for (int s = 0; s < steps_; ++s) {
    if (s % steps == 0) std::fill(sums.begin(), sums.end(), 0);
    for (int& sum : sums) {
      sum += std::popcount(*index++);
      if (sum > codes) return false;
    }
  }
  return true;
}

// However many codes there can be in an entry, a weight plane takes about half of them.
void LookupConv::choose_flush() {
  const int multiple = steps_at_once_, least = 255 / largest_entry();
  const auto fits = [&](int steps) {
    return std::all_of(strips_.begin(), strips_.end(),
                       [&](const Strip& strip) { return fits_bytes(strip, steps); });
  };
  flush_steps_ = std::min(3 * least, steps_) / multiple * multiple;
  while (flush_steps_ > least && !fits(flush_steps_)) flush_steps_ -= multiple;
  if (flush_steps_ <= least) flush_steps_ = least >= multiple ? least / multiple * multiple : least;
  for (int& steps : widen_steps_) steps = at_once_ ? steps_ : steps / flush_steps_ * flush_steps_;
}

// A vector takes one pixel or 16 lanes of each of several: what leaves fewer lanes unused.
void LookupConv::choose_layout() {
  const size_t blocks = static_cast<size_t>(target_.lanes) / kTableBytes;
  const size_t planes = static_cast<size_t>(std::min(p_.w_bits, 2)), lanes = group_oc_ * planes;
  const size_t one_pixel = first_pixels_ * round_up(lanes, target_.lanes);
  const size_t several = round_up(first_pixels_, blocks) * round_up(lanes, kTableBytes);
  across_pixels_ = blocks > 1 && several <= one_pixel;
  index_bytes_ = across_pixels_ ? kTableBytes : target_.lanes;
  // One pixel alone shares its table among as many vectors as there are registers.
  const bool share = across_pixels_ || half_steps_ > 0 || target_.tile_vectors > 8;
  const int most = p_.ow == 1 ? 8 : share ? target_.index_vectors : 1;
  vectors_ = std::min(most, static_cast<int>(std::bit_floor((lanes + index_bytes_ - 1) / index_bytes_)));
}

void LookupConv::make_strips() {
  const int block_channels = vectors_ * index_bytes_ / (p_.w_bits % 2 == 0 ? 2 : 1);
  for (int group = 0; group < p_.groups; ++group) {
    for (int channel = 0; channel < group_oc_; channel += block_channels) {
      blocks_.push_back(strips_.size());
      const int end = std::min(channel + block_channels, group_oc_);
      for (int plane = 0; plane < p_.w_bits; plane += 2) {
        const bool two_planes = plane + 1 < p_.w_bits;
        const int per_vector = index_bytes_ / (two_planes ? 2 : 1);
        for (int c = channel; c < end;) {
          const int needed = (end - c + per_vector - 1) / per_vector;
          const int vectors =
              std::min(vectors_, static_cast<int>(std::bit_floor(static_cast<unsigned>(needed))));
          const int channels = std::min(vectors * per_vector, end - c);
          strips_.push_back({indices_.size(), group, c, channels, vectors, plane, two_planes});
          indices_.resize(indices_.size() + size_t{1} * steps_ * vectors * index_bytes_);
          c += channels;
        }
      }
    }
  }
  blocks_.push_back(strips_.size());
}

void LookupConv::pack(const Strip& strip, std::span<const uint8_t> codes) {
  const int kernel_w = p_.window.kernel_w, taps = p_.window.kernel_h * kernel_w;
  const int half = index_bytes_ / 2, per_vector = strip.two_planes ? half : index_bytes_;
  for (int i = 0; i < strip.channels; ++i) {
    const int vector = i / per_vector, in_vector = i % per_vector;
    const int lane = strip.two_planes ? 2 * in_vector : in_vector % half * 2 + in_vector / half;
    const size_t o = size_t{1} * strip.group * group_oc_ + strip.channel + i;
    for (int c = 0; c < group_ic_; ++c) {
      for (int tap = 0; tap < taps; ++tap) {
        const int code = codes[(o * group_ic_ + c) * taps + tap] >> strip.plane;
        const size_t step = size_t{1} * tap * group_tables_ + c / kTableCodes;
        uint8_t* index =
            indices_.data() + strip.indices + (step * strip.vectors + vector) * index_bytes_ + lane;
        index[0] = static_cast<uint8_t>(index[0] | (code & 1) << c % kTableCodes);
        if (strip.two_planes) index[1] = static_cast<uint8_t>(index[1] | (code >> 1 & 1) << c % kTableCodes);
      }
    }
  }
}

void LookupConv::make_bias(std::span<const uint8_t> codes) {
  bias_.assign(p_.oc + kSpareChannels, 0);
  for (int o = 0; o < p_.oc; ++o) {
    int64_t sum = 0;
    for (int i = 0; i < p_.reduction(); ++i) sum += codes[size_t{1} * o * p_.reduction() + i];
    const int64_t integers = p_.grid.mul * sum + int64_t{p_.grid.offset} * p_.reduction();
    bias_[o] = static_cast<int32_t>(p_.a_zero * integers);
  }
}

bool LookupConv::fuse(const Requantization& end) {
  if (!at_once_) return false;
  mul_.assign(bias_.size(), 0);
  add_.assign(bias_.size(), 0);
  std::copy(end.mul.begin(), end.mul.end(), mul_.begin());
  std::copy(end.add.begin(), end.add.end(), add_.begin());
  inverse_ = end.inverse;
  max_code_ = end.max_code;
  return true;
}

void LookupConv::prepare(const uint8_t* codes, uint8_t* row) const noexcept {
  const program::Window& w = p_.window;
  const int width = p_.iw + w.pad_left + w.pad_right;
  auto* window_sums = reinterpret_cast<int32_t*>(row + sums_offset_);
  int32_t* const sums = window_sums + size_t{1} * p_.groups * p_.ow;
  for (int group = 0; group < p_.groups; ++group, window_sums += p_.ow) {
    for (size_t i = 0; i < phases_.size(); ++i) {
      const int pixels = (width - phases_[i] + w.stride_w - 1) / w.stride_w;
      uint8_t* tables =
          row + size_t{1} * group * group_tables_ * tables_stride_ + i * phase_tables_ * kTableBytes;
      target_.make_tables({codes + size_t{1} * phases_[i] * p_.ic + group * group_ic_,
                           size_t{1} * w.stride_w * p_.ic, pixels - second_, second_, group_ic_, tables,
                           tables_stride_, sums + i * phase_pixels_});
    }
    std::fill_n(window_sums, p_.ow, 0);
    for (const Tap& tap : taps_) {
      const int32_t* of_pixel = sums + size_t{1} * tap.phase * phase_pixels_ + tap.pixel;
      for (int x = 0; x < p_.ow; ++x) window_sums[x] += of_pixel[x];
    }
  }
}

// rows: [kernel_h]; tables: [steps], those of output pixel 0.
void LookupConv::find_tables(const uint8_t* const* rows, int group, const uint8_t** tables) const noexcept {
  const uint8_t** const end = tables + steps_;
  for (int ky = 0; ky < p_.window.kernel_h; ++ky) {
    for (const Tap& tap : taps_) {
      const uint8_t* at = rows[ky] + size_t{1} * group * group_tables_ * tables_stride_ +
                          (size_t{1} * tap.phase * phase_tables_ + tap.pixel) * kTableBytes;
      for (int i = 0; i < group_tables_; ++i, at += tables_stride_) *tables++ = at;
    }
  }
  std::fill(tables, end, rows[0]);
}

// sums: [ow], weighted with the offset of the grid.
void LookupConv::window_sums(const uint8_t* const* rows, int group, int32_t* sums) const noexcept {
  std::fill_n(sums, p_.ow, 0);
  if (p_.grid.offset == 0) return;
  for (int ky = 0; ky < p_.window.kernel_h; ++ky) {
    const int32_t* of_row =
        reinterpret_cast<const int32_t*>(rows[ky] + sums_offset_) + size_t{1} * group * p_.ow;
    for (int x = 0; x < p_.ow; ++x) sums[x] += of_row[x];
  }
  for (int x = 0; x < p_.ow; ++x) {
    sums[x] = static_cast<int32_t>(static_cast<uint32_t>(sums[x]) * static_cast<uint32_t>(p_.grid.offset));
  }
}

// Strips [first, last) of one group; base: [ow]; to sums: [ow][sums_stride], from the first strip's channel
// on, or, when that is null, to out: [ow][oc].
void LookupConv::compute_row(const uint8_t* const* tables, const int32_t* base, size_t first, size_t last,
                             uint16_t* sums, int32_t* out) const noexcept {
  const int blocks = across_pixels_ ? target_.lanes / kTableBytes : 1;
  // A pair has two sums.
  const int most = std::min(target_.tile_vectors / (half_steps_ > 0 ? 2 : 1) / vectors_, 8);
  const int in_row = (first_pixels_ + blocks - 1) / blocks, tiles = (in_row + most - 1) / most;
  for (int i = 0; i < tiles; ++i) {
    const int x = in_row * i / tiles * blocks,
              end = std::min(first_pixels_, in_row * (i + 1) / tiles * blocks);
    for (size_t s = first; s < last; ++s) {
      const Strip& strip = strips_[s];
      LookupTile tile{};
      tile.tables = tables;
      tile.first_bytes = size_t{kTableBytes} * x;
      tile.half_steps = half_steps_;
      tile.second = second_;
      tile.indices = indices_.data() + strip.indices;
      tile.steps = steps_;
      tile.vectors = strip.vectors;
      tile.pixels = end - x;
      tile.flush_steps = flush_steps_;
      tile.widen_steps = widen_steps_[strip.two_planes ? 1 : 0];
      tile.across_pixels = across_pixels_;
      tile.two_planes = strip.two_planes;
      tile.add = strip.plane > 0;
      tile.shift = strip.plane + p_.grid.mul / 2;
      tile.base = base + x;
      const size_t channel = size_t{1} * strip.group * group_oc_ + strip.channel;
      tile.bias = bias_.data() + channel;
      if (sums != nullptr) {
        tile.sums = sums + x * sums_stride_ + (strip.channel - strips_[first].channel);
        tile.out_stride_elems = sums_stride_;
      } else {
        tile.out = out + size_t{1} * x * p_.oc + channel;
        tile.out_stride_elems = p_.oc;
      }
      tile.channels = strip.channels;
      target_.tile(tile);
    }
  }
}

void LookupConv::finish_row(const uint16_t* sums, const int32_t* base, size_t first, size_t last,
                            const RowBand& band, int row) const noexcept {
  const Strip &from = strips_[first], &to = strips_[last - 1];
  const size_t channel = size_t{1} * from.group * group_oc_ + from.channel;
  LookupEnd end{};
  end.sums = sums;
  end.sums_stride_elems = sums_stride_;
  end.pixels = p_.ow;
  end.channels = to.channel + to.channels - from.channel;
  end.shift = p_.grid.mul / 2;
  end.base = base;
  end.bias = bias_.data() + channel;
  end.out_stride_elems = p_.oc;
  const size_t at = size_t{1} * row * p_.ow * p_.oc + channel;
  if (band.codes != nullptr) {
    end.codes = band.codes + at;
    end.end = {mul_.data() + channel, add_.data() + channel, inverse_, max_code_};
  } else {
    end.out = band.acc + at;
  }
  target_.finish(end);
}

void LookupConv::compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept {
  auto** tables = reinterpret_cast<const uint8_t**>(scratch);
  auto* base = reinterpret_cast<int32_t*>(scratch + pointers_bytes());
  auto* sums =
      reinterpret_cast<uint16_t*>(scratch + pointers_bytes() + round_up(p_.ow * sizeof(int32_t), 64));
  const int group_blocks = blocks() / p_.groups;
  for (int i = 0; i < band.count; ++i) {
    const uint8_t* const* rows = band.rows + i * p_.window.kernel_h;
    for (int begin = first; begin < last;) {
      const int group = begin / group_blocks, end = std::min(last, (group + 1) * group_blocks);
      find_tables(rows, group, tables);
      window_sums(rows, group, base);
      if (at_once_) {
        compute_row(tables, base, blocks_[begin], blocks_[end], sums, nullptr);
        finish_row(sums, base, blocks_[begin], blocks_[end], band, i);
      } else {
        compute_row(tables, base, blocks_[begin], blocks_[end], nullptr,
                    band.acc + size_t{1} * i * p_.ow * p_.oc);
      }
      begin = end;
    }
  }
}

template <Isa kIsa>
LookupTarget target() {
  return kIsa == Isa::kScalar ? lookup_scalar_target() : lookup_target(kIsa);
}

template <Isa kIsa>
std::string refuses(const ConvProblem& p, Isa) {
  if (target<kIsa>().lanes == 0) {
    return fmt::format("this CPU or build lacks the lookup code for {}", to_string(kIsa));
  }
  if (p.w_bits > kMaxWeightBits) {
    return fmt::format("{} weight bits: every bit costs one lookup, {} are the most that can pay", p.w_bits,
                       kMaxWeightBits);
  }
  if (p.a_bits > kMaxActivationBits) {
    return fmt::format("{} activation bits: sums of {} codes fit a byte up to {}", p.a_bits, kTableCodes,
                       kMaxActivationBits);
  }
  if (p.groups > 1 && p.ic / p.groups < kTableCodes) {
    return fmt::format("{} input channels per group: a table takes {}", p.ic / p.groups, kTableCodes);
  }
  return {};
}

template <Isa kIsa>
KernelEntry entry(const char* name) {
  return {name, Family::kLookup, kIsa, refuses<kIsa>,
          [](const ConvProblem& problem, std::span<const uint8_t> codes, Isa) -> std::unique_ptr<ConvKernel> {
            return make_row_conv(problem, std::make_unique<LookupConv>(problem, codes, target<kIsa>()));
          }};
}

}  // namespace

std::vector<KernelEntry> lookup_entries() {
  return {entry<Isa::kAvx512>("conv_lookup__avx512"), entry<Isa::kAvx2>("conv_lookup__avx2"),
          entry<Isa::kNeon>("conv_lookup__neon"), entry<Isa::kScalar>("conv_lookup__scalar")};
}

}  // namespace bitstrata::kernels
