#include "kernels/narrow.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "kernels/families.h"
#include "kernels/row_conv.h"

namespace bitstrata::kernels {
namespace {

constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Below this many steps between two widenings, these cost more than the window sums of centred weights.
constexpr int kFewSteps = 32;

/// Below this many, widening every step in registers is faster.
constexpr int kDirectSteps = 4;

/// How a weight code u is stored: as (mul * u + offset) or as u - centre. With S the convolution of
/// codes and stored weights, sum w v = (S << mul_shift) + value_factor * sum of codes.
struct Stored {
  int mul, offset;
  int mul_shift = 0, value_factor = 0;
  int at(int u) const noexcept { return mul * u + offset; }
  int largest(int w_bits) const noexcept {
    return std::max(std::abs(at(0)), std::abs(at((1 << w_bits) - 1)));
  }
};

Stored centred(const ConvProblem& p, int centre) {
  return {1, -centre, p.grid.mul == 2 ? 1 : 0, p.grid.offset + centre * p.grid.mul};
}

/// Steps of products of up to max_weight and the largest activation code that no 16-bit sum of `target`
/// overflows in; 0 when one step can.
int exact_steps(const NarrowTarget& target, const ConvProblem& p, int max_weight) {
  const int step = target.products_per_step * max_weight * ((1 << p.a_bits) - 1);
  return step == 0 ? 1 << 30 : target.max_sum / step;
}

Stored choose_stored(const NarrowTarget& target, const ConvProblem& p) {
  if (!target.signed_weights) return centred(p, 0);
  const Stored direct{p.grid.mul, p.grid.offset}, middle = centred(p, 1 << (p.w_bits - 1));
  const bool fits = p.grid.at(0) >= -128 && p.grid.at((1 << p.w_bits) - 1) <= 127;
  if (!fits) return middle;
  const int direct_steps = exact_steps(target, p, direct.largest(p.w_bits));
  const bool better = exact_steps(target, p, middle.largest(p.w_bits)) > direct_steps;
  return better && direct_steps < kFewSteps ? middle : direct;
}

class NarrowKernel final : public RowKernel {
 public:
  NarrowKernel(const ConvProblem& problem, std::span<const uint8_t> codes, const NarrowTarget& target);

  size_t row_bytes() const noexcept override {
    return code_bytes_ + (stored_.value_factor != 0 ? sums_count_ * sizeof(int32_t) : 0);
  }
  void prepare(const uint8_t* codes, uint8_t* row) const noexcept override;
  bool takes_codes() const noexcept override {
    const int run = group_ic_ * (p_.window.dilation_w == 1 ? p_.window.kernel_w : 1);
    return !wide_ && p_.groups == 1 && stored_.value_factor == 0 && run % 4 == 0;
  }
  int blocks() const noexcept override { return p_.groups * group_blocks_; }
  void compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept override;
  size_t scratch_bytes(int rows) const noexcept override {
    return size_t{1} * rows * p_.ow * (p_.window.kernel_h * sizeof(uint8_t*) + sizeof(uint32_t));
  }
  size_t weight_bytes() const noexcept override { return weights_.size() + bias_.size() * sizeof(int32_t); }
  std::string implementation() const override { return target_.name; }

 private:
  void choose_operands(std::span<const uint8_t> codes);
  void make_runs();
  void pack_weights(std::span<const uint8_t> codes);
  void pack_channel(const uint8_t* codes, uint8_t* out) const;
  int operand_bytes() const noexcept { return wide_ ? 2 : 1; }
  const uint32_t* sums_of(const uint8_t* row, int group) const noexcept {
    return reinterpret_cast<const uint32_t*>(row + code_bytes_) + size_t{1} * group * padded_w_;
  }
  void find_codes(const RowBand& band, int group, const uint8_t** codes) const noexcept;
  void window_sums(const RowBand& band, int group, uint32_t* out) const noexcept;

  ConvProblem p_;
  NarrowTarget target_;
  Stored stored_;
  int group_ic_, group_oc_, padded_w_, group_blocks_;
  bool wide_ = false;  ///< operands of 16 bits
  void (*band_)(const NarrowBand&) = nullptr;
  int pixel_bytes_;  ///< of one group
  int steps_ = 0, exact_steps_ = 0;
  size_t group_bytes_, code_bytes_, sums_count_;
  std::vector<NarrowRun> runs_;
  std::vector<uint8_t> weights_;  ///< [groups][group_blocks][steps][lanes][4], or [..][2] int16_t
  std::vector<int32_t> bias_;     ///< [groups][group_blocks * lanes]
};

NarrowKernel::NarrowKernel(const ConvProblem& problem, std::span<const uint8_t> codes,
                           const NarrowTarget& target)
    : p_(problem), target_(target), stored_(choose_stored(target, problem)) {
  const program::Window& w = p_.window;
  group_ic_ = p_.ic / p_.groups;
  group_oc_ = p_.oc / p_.groups;
  padded_w_ = p_.iw + w.pad_left + w.pad_right;
  group_blocks_ = (group_oc_ + target_.lanes - 1) / target_.lanes;
  choose_operands(codes);
  pixel_bytes_ = group_ic_ * operand_bytes();
  group_bytes_ = size_t{1} * padded_w_ * pixel_bytes_;
  code_bytes_ = round_up(group_bytes_ * p_.groups, sizeof(int32_t));
  sums_count_ = size_t{1} * padded_w_ * p_.groups;
  make_runs();
  pack_weights(codes);
}

void NarrowKernel::choose_operands(std::span<const uint8_t> codes) {
  const auto [low, high] = std::minmax_element(codes.begin(), codes.end());
  const int max_weight = std::max(std::abs(stored_.at(*low)), std::abs(stored_.at(*high)));
  exact_steps_ = exact_steps(target_, p_, max_weight);
  band_ = target_.band;
  if (exact_steps_ == 0) {
    wide_ = true;
    band_ = target_.wide_band;
    stored_ = {p_.grid.mul, p_.grid.offset};
  } else if (target_.direct_band != nullptr && exact_steps_ < kDirectSteps) {
    band_ = target_.direct_band;
  }
}

// Without dilation the channels of one row of the window are one run, whatever their number.
void NarrowKernel::make_runs() {
  const program::Window& w = p_.window;
  const int bytes = (w.dilation_w == 1 ? w.kernel_w : 1) * pixel_bytes_;
  for (int i = 0; i < (w.dilation_w == 1 ? 1 : w.kernel_w); ++i) {
    runs_.push_back({size_t{1} * i * w.dilation_w * pixel_bytes_, (bytes + 3) / 4});
    steps_ += w.kernel_h * runs_.back().steps;
  }
}

void NarrowKernel::pack_weights(std::span<const uint8_t> codes) {
  const int lanes = target_.lanes, reduction = p_.reduction();
  weights_.assign(size_t{4} * p_.groups * group_blocks_ * steps_ * lanes, 0);
  bias_.assign(size_t{1} * p_.groups * group_blocks_ * lanes, 0);
  for (int o = 0; o < p_.oc; ++o) {
    const int in_group = o % group_oc_, lane = in_group % lanes;
    const size_t block = size_t{1} * (o / group_oc_) * group_blocks_ + in_group / lanes;
    const uint8_t* channel = codes.data() + size_t{1} * o * reduction;
    pack_channel(channel, weights_.data() + 4 * (block * steps_ * lanes + lane));
    int64_t sum = 0;
    for (int i = 0; i < reduction; ++i) sum += p_.grid.at(channel[i]);
    bias_[block * lanes + lane] = static_cast<int32_t>(p_.a_zero * sum);
  }
}

// codes: [group_ic][kernel_h][kernel_w]; out: lane 0 of the block's first step.
void NarrowKernel::pack_channel(const uint8_t* codes, uint8_t* out) const {
  const program::Window& w = p_.window;
  const int bytes = operand_bytes(), per_step = 4 / bytes;
  for (int ky = 0; ky < w.kernel_h; ++ky) {
    for (size_t run = 0; run < runs_.size(); ++run) {
      for (int i = 0; i < per_step * runs_[run].steps; ++i) {
        const int kx = static_cast<int>(run) + i / group_ic_, c = i % group_ic_;
        const bool inside = w.dilation_w == 1 ? kx < w.kernel_w : i < group_ic_;
        if (inside) {
          const int u = codes[(c * w.kernel_h + ky) * w.kernel_w + kx];
          const auto weight = static_cast<int16_t>(stored_.at(u));
          // Little-endian, so that the first byte is the weight modulo 2^8.
          std::memcpy(out + size_t{4} * (i / per_step) * target_.lanes + i % per_step * bytes, &weight,
                      bytes);
        }
      }
      out += size_t{4} * runs_[run].steps * target_.lanes;
    }
  }
}

void NarrowKernel::prepare(const uint8_t* codes, uint8_t* row) const noexcept {
  const auto copy = [this](const uint8_t* from, size_t count, uint8_t* to) {
    if (wide_) {
      std::copy_n(from, count, reinterpret_cast<uint16_t*>(to));
    } else {
      std::copy_n(from, count, to);
    }
  };
  if (p_.groups == 1) {
    copy(codes, size_t{1} * padded_w_ * group_ic_, row);
  } else {
    for (int g = 0; g < p_.groups; ++g) {
      for (int x = 0; x < padded_w_; ++x) {
        copy(codes + size_t{1} * x * p_.ic + g * group_ic_, group_ic_,
             row + g * group_bytes_ + size_t{1} * x * pixel_bytes_);
      }
    }
  }
  if (stored_.value_factor == 0) return;
  auto* sums = reinterpret_cast<uint32_t*>(row + code_bytes_);
  for (size_t i = 0; i < sums_count_; ++i) sums[i] = target_.sum(row + i * group_ic_, group_ic_);
}

// codes: [kernel_h][pixels].
void NarrowKernel::find_codes(const RowBand& band, int group, const uint8_t** codes) const noexcept {
  const size_t stride = size_t{1} * p_.window.stride_w * pixel_bytes_;
  for (int ky = 0; ky < p_.window.kernel_h; ++ky) {
    for (int y = 0; y < band.count; ++y, codes += p_.ow) {
      const uint8_t* row = band.rows[y * p_.window.kernel_h + ky] + group * group_bytes_;
      for (int x = 0; x < p_.ow; ++x) codes[x] = row + x * stride;
    }
  }
}

void NarrowKernel::window_sums(const RowBand& band, int group, uint32_t* out) const noexcept {
  const program::Window& w = p_.window;
  for (int y = 0; y < band.count; ++y, out += p_.ow) {
    std::fill_n(out, p_.ow, 0);
    for (int ky = 0; ky < w.kernel_h; ++ky) {
      const uint32_t* sums = sums_of(band.rows[y * w.kernel_h + ky], group);
      for (int kx = 0; kx < w.kernel_w; ++kx, sums += w.dilation_w) {
        for (int x = 0; x < p_.ow; ++x) out[x] += sums[size_t{1} * x * w.stride_w];
      }
    }
  }
}

void NarrowKernel::compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept {
  const int lanes = target_.lanes;
  const int pixels = band.count * p_.ow;
  auto* pixel_codes = reinterpret_cast<const uint8_t**>(scratch);
  auto* pixel_sums = reinterpret_cast<uint32_t*>(pixel_codes + size_t{1} * p_.window.kernel_h * pixels);
  for (int begin = first; begin < last;) {
    const int group = begin / group_blocks_, in_group = begin % group_blocks_ * lanes;
    const int end = std::min(last, (group + 1) * group_blocks_);
    find_codes(band, group, pixel_codes);
    if (stored_.value_factor != 0) window_sums(band, group, pixel_sums);
    NarrowBand part{};
    part.weights = weights_.data() + size_t{4} * begin * steps_ * lanes;
    part.codes = pixel_codes;
    part.kernel_h = p_.window.kernel_h;
    part.pixels = pixels;
    part.ow = p_.ow;
    part.zeros = band.padding;
    part.zeros_bytes = p_.a_zero == 0 ? code_bytes_ : 0;
    part.runs = runs_.data();
    part.run_count = static_cast<int>(runs_.size());
    part.steps = steps_;
    part.exact_steps = exact_steps_;
    part.blocks = end - begin;
    part.mul_shift = stored_.mul_shift;
    part.value_factor = static_cast<uint32_t>(stored_.value_factor);
    part.pixel_sums = stored_.value_factor != 0 ? pixel_sums : nullptr;
    part.bias = bias_.data() + size_t{1} * begin * lanes;
    part.out = band.acc + size_t{1} * group * group_oc_ + in_group;
    part.out_stride_elems = p_.oc;
    part.channels = std::min(part.blocks * lanes, group_oc_ - in_group);
    band_(part);
    begin = end;
  }
}

template <Isa kIsa>
NarrowTarget target() {
  return kIsa == Isa::kScalar ? narrow_scalar_target() : narrow_target(kIsa);
}

template <Isa kIsa>
std::string refuses(const ConvProblem&, Isa) {
  if (target<kIsa>().lanes == 0)
    return fmt::format("this CPU or build lacks the narrow int8 code for {}", to_string(kIsa));
  return {};
}

template <Isa kIsa>
KernelEntry entry(const char* name) {
  return {name, Family::kInt8, kIsa, refuses<kIsa>,
          [](const ConvProblem& problem, std::span<const uint8_t> codes, Isa) -> std::unique_ptr<ConvKernel> {
            return make_row_conv(problem, std::make_unique<NarrowKernel>(problem, codes, target<kIsa>()));
          }};
}

}  // namespace

std::vector<KernelEntry> narrow_entries() {
  return {entry<Isa::kVnni>("conv_u8s8_narrow__vnni"), entry<Isa::kAvx512>("conv_u8s8_narrow__avx512"),
          entry<Isa::kAvx2>("conv_u8s8_narrow__avx2"), entry<Isa::kNeon>("conv_u8s8_narrow__neon"),
          entry<Isa::kScalar>("conv_u8s8_narrow__scalar")};
}

}  // namespace bitstrata::kernels
