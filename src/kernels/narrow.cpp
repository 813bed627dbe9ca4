#include "kernels/narrow.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "kernels/aligned.h"
#include "kernels/families.h"
#include "kernels/narrow_layout.h"
#include "kernels/row_conv.h"

namespace bitstrata::kernels {
namespace {

/// Below this many steps between two widenings, these cost more than the window sums of centred weights.
constexpr int kFewSteps = 32;

/// Bytes of a prepared row that leave room for many in the first cache.
constexpr size_t kSmallRow = 4096;

/// From this many on, leaving out a pixel in padding pays for loops of its own.
constexpr int kEdgeSteps = 12;

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
/// overflows in, whatever the weights; 0 when one step can.
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

  size_t row_bytes() const noexcept override { return sums_at_ + sums_bytes_ + operands_bytes_; }
  void prepare(const uint8_t* codes, uint8_t* row) const noexcept override;
  int blocks() const noexcept override { return p_.groups * group_blocks_; }
  /// More where the rows under them stay in the first cache all the same.
  int band_pixels() const noexcept override { return row_bytes() <= kSmallRow ? 128 : 48; }
  void compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept override;
  bool fuse(const Requantization& end) override;
  size_t scratch_bytes(int rows) const noexcept override {
    return size_t{1} * rows * (p_.window.kernel_h * sizeof(uint8_t*) + p_.ow * sizeof(uint32_t));
  }
  size_t weight_bytes() const noexcept override {
    return weights_.size() + bias_.size() * sizeof(int32_t) + (mul_.size() + add_.size()) * sizeof(float);
  }
  std::string implementation() const override { return target_.name; }

 private:
  void choose_sums(std::span<const uint8_t> codes);
  void lay_out();
  void find_edges();
  void pack_weights(std::span<const uint8_t> codes);
  void pack_channel(const uint8_t* codes, uint8_t* out) const;
  void make_bias(std::span<const uint8_t> codes);
  /// Of channel o in bias_, mul_ and add_.
  size_t place(int o) const noexcept {
    return size_t{1} * (o / group_oc_) * group_blocks_ * target_.lanes + o % group_oc_;
  }
  int operand_bytes() const noexcept { return wide_ ? 2 : 1; }
  const uint32_t* sums_of(const uint8_t* row, int group) const noexcept {
    return reinterpret_cast<const uint32_t*>(row + sums_at_) + size_t{1} * group * padded_w_;
  }
  void gather_operands(const uint8_t* codes, int group, uint8_t* out) const noexcept;
  void window_sums(const RowBand& band, int group, uint32_t* out) const noexcept;

  ConvProblem p_;
  NarrowTarget target_;
  Stored stored_;
  int group_ic_, group_oc_, padded_w_, group_blocks_;
  bool wide_ = false;  ///< operands of 16 bits
  void (*band_)(const NarrowBand&) = nullptr;
  NarrowLayout layout_;  ///< of a group's part of a prepared row
  int row_steps_ = 0;
  int left_steps_ = 0, right_steps_ = 0;  ///< as NarrowBand has them, where they pay
  NarrowExact exact_{};
  /// Behind the groups' planes: sums of the codes of each pixel, [groups][padded_w], if these are needed;
  /// then the operands of one group, if these are not the codes themselves.
  size_t sums_at_ = 0, sums_bytes_ = 0, operands_bytes_ = 0;
  LineVector<uint8_t> weights_;   ///< [groups][group_blocks] of NarrowBand::weights
  std::vector<int32_t> bias_;     ///< [groups][group_blocks * lanes]
  std::vector<float> mul_, add_;  ///< likewise, after fuse()
  float inverse_ = 1;
  int max_code_ = 0;
};

NarrowKernel::NarrowKernel(const ConvProblem& problem, std::span<const uint8_t> codes,
                           const NarrowTarget& target)
    : p_(problem), target_(target), stored_(choose_stored(target, problem)) {
  group_ic_ = p_.ic / p_.groups;
  group_oc_ = p_.oc / p_.groups;
  padded_w_ = p_.iw + p_.window.pad_left + p_.window.pad_right;
  group_blocks_ = (group_oc_ + target_.lanes - 1) / target_.lanes;
  choose_sums(codes);
  make_bias(codes);
}

void NarrowKernel::choose_sums(std::span<const uint8_t> codes) {
  const int max_code = (1 << p_.a_bits) - 1;
  lay_out();
  pack_weights(codes);
  band_ = target_.band;
  if (target_.products_per_step == 0) return;
  exact_ = narrow_exact(target_, weights_, p_.window.kernel_h, row_steps_, max_code);
  if (exact_.rows == 0) {
    wide_ = true;
    band_ = target_.wide_band;
    stored_ = {p_.grid.mul, p_.grid.offset};
    lay_out();
    pack_weights(codes);
  } else if (target_.direct_band != nullptr && exact_.rows * exact_.steps < kDirectSteps) {
    band_ = target_.direct_band;
  }
}

void NarrowKernel::lay_out() {
  layout_ = narrow_layout(p_.window, p_.ow, group_ic_, operand_bytes());
  row_steps_ = static_cast<int>(layout_.offsets.size());
  find_edges();
  sums_at_ = layout_.bytes * p_.groups;
  sums_bytes_ = stored_.value_factor != 0 ? size_t{1} * padded_w_ * p_.groups * sizeof(uint32_t) : 0;
  operands_bytes_ = wide_ || p_.groups > 1 ? size_t{1} * padded_w_ * group_ic_ * operand_bytes() : 0;
}

void NarrowKernel::find_edges() {
  const program::Window& w = p_.window;
  const int tap_bytes = group_ic_ * operand_bytes();
  left_steps_ = right_steps_ = 0;
  if (p_.a_zero != 0 || tap_bytes % 4 != 0) return;
  const int last_x = (p_.ow - 1) * w.stride_w, end_x = w.pad_left + p_.iw;
  for (int kx = 0; kx < w.kernel_w; ++kx) {
    if (kx * w.dilation_w < w.pad_left) left_steps_ += tap_bytes / 4;
    if (last_x + kx * w.dilation_w >= end_x) right_steps_ += tap_bytes / 4;
  }
  if (left_steps_ < kEdgeSteps) left_steps_ = 0;
  if (right_steps_ < kEdgeSteps || left_steps_ + right_steps_ > row_steps_) right_steps_ = 0;
}

void NarrowKernel::pack_weights(std::span<const uint8_t> codes) {
  const int lanes = target_.lanes, reduction = p_.reduction();
  const size_t channel_bytes = size_t{4} * p_.window.kernel_h * row_steps_;
  weights_.assign(channel_bytes * p_.groups * group_blocks_ * lanes, 0);
  for (int o = 0; o < p_.oc; ++o) {
    const size_t block = place(o) / lanes, lane = place(o) % lanes;
    pack_channel(codes.data() + size_t{1} * o * reduction,
                 weights_.data() + block * lanes * channel_bytes + 4 * lane);
  }
}

// codes: [group_ic][kernel_h][kernel_w]; out: the lane in the block's first step.
void NarrowKernel::pack_channel(const uint8_t* codes, uint8_t* out) const {
  const program::Window& w = p_.window;
  const int bytes = operand_bytes(), per_word = 4 / bytes;
  for (int ky = 0; ky < w.kernel_h; ++ky) {
    for (int i = 0; i < row_steps_; ++i, out += size_t{4} * target_.lanes) {
      for (int j = 0; j < per_word; ++j) {
        const int operand = layout_.operands[i * per_word + j];
        if (operand < 0) continue;
        const int kx = operand / group_ic_, c = operand % group_ic_;
        const auto weight = static_cast<int16_t>(stored_.at(codes[(c * w.kernel_h + ky) * w.kernel_w + kx]));
        // Little-endian, so that the first byte is the weight modulo 2^8.
        std::memcpy(out + j * bytes, &weight, bytes);
      }
    }
  }
}

void NarrowKernel::make_bias(std::span<const uint8_t> codes) {
  const int reduction = p_.reduction();
  bias_.assign(size_t{1} * p_.groups * group_blocks_ * target_.lanes, 0);
  for (int o = 0; o < p_.oc; ++o) {
    int64_t sum = 0;
    for (int i = 0; i < reduction; ++i) sum += p_.grid.at(codes[size_t{1} * o * reduction + i]);
    bias_[place(o)] = static_cast<int32_t>(p_.a_zero * sum);
  }
}

bool NarrowKernel::fuse(const Requantization& end) {
  mul_.assign(bias_.size(), 0);
  add_.assign(bias_.size(), 0);
  for (int o = 0; o < p_.oc; ++o) {
    mul_[place(o)] = end.mul[o];
    add_[place(o)] = end.add[o];
  }
  inverse_ = end.inverse;
  max_code_ = end.max_code;
  return true;
}

void NarrowKernel::prepare(const uint8_t* codes, uint8_t* row) const noexcept {
  uint8_t* own = row + sums_at_ + sums_bytes_;
  for (int g = 0; g < p_.groups; ++g) {
    if (operands_bytes_ != 0) gather_operands(codes, g, own);
    const uint8_t* operands = operands_bytes_ != 0 ? own : codes;
    for (const NarrowLayout::Run& run : layout_.runs) {
      target_.planes({operands + run.first_byte, layout_.stride_bytes, run.count, run.words,
                      row + g * layout_.bytes + run.first_plane * layout_.plane_bytes, layout_.plane_bytes});
    }
  }
  if (sums_bytes_ == 0) return;
  auto* sums = reinterpret_cast<uint32_t*>(row + sums_at_);
  for (int g = 0; g < p_.groups; ++g) {
    for (int x = 0; x < padded_w_; ++x)
      *sums++ = target_.sum(codes + size_t{1} * x * p_.ic + g * group_ic_, group_ic_);
  }
}

// out: [padded_w][group_ic] operands.
void NarrowKernel::gather_operands(const uint8_t* codes, int group, uint8_t* out) const noexcept {
  const size_t pixel_bytes = size_t{1} * group_ic_ * operand_bytes();
  for (int x = 0; x < padded_w_; ++x) {
    const uint8_t* pixel = codes + size_t{1} * x * p_.ic + group * group_ic_;
    if (wide_) {
      std::copy_n(pixel, group_ic_, reinterpret_cast<uint16_t*>(out + x * pixel_bytes));
    } else {
      std::copy_n(pixel, group_ic_, out + x * pixel_bytes);
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
  const int lanes = target_.lanes, rows = band.count * p_.window.kernel_h;
  auto* group_rows = reinterpret_cast<const uint8_t**>(scratch);
  auto* pixel_sums = reinterpret_cast<uint32_t*>(group_rows + rows);
  for (int begin = first; begin < last;) {
    const int group = begin / group_blocks_, in_group = begin % group_blocks_ * lanes;
    const int end = std::min(last, (group + 1) * group_blocks_);
    for (int i = 0; i < rows; ++i) {
      const bool zero = p_.a_zero == 0 && band.rows[i] == band.padding;
      group_rows[i] = zero ? nullptr : band.rows[i] + group * layout_.bytes;
    }
    if (stored_.value_factor != 0) window_sums(band, group, pixel_sums);
    const size_t channel = size_t{1} * group * group_oc_ + in_group;
    NarrowBand part{};
    part.weights = weights_.data() + size_t{4} * begin * p_.window.kernel_h * row_steps_ * lanes;
    part.rows = group_rows;
    part.out_rows = band.count;
    part.kernel_h = p_.window.kernel_h;
    part.ow = p_.ow;
    part.offsets = layout_.offsets.data();
    part.row_steps = row_steps_;
    part.left_steps = left_steps_;
    part.right_steps = right_steps_;
    part.exact = exact_;
    part.blocks = end - begin;
    part.mul_shift = stored_.mul_shift;
    part.value_factor = static_cast<uint32_t>(stored_.value_factor);
    part.pixel_sums = stored_.value_factor != 0 ? pixel_sums : nullptr;
    part.bias = bias_.data() + size_t{1} * begin * lanes;
    part.complete = stored_.mul_shift == 0 && stored_.value_factor == 0 && p_.a_zero == 0;
    part.out_stride_elems = p_.oc;
    part.channels = std::min(part.blocks * lanes, group_oc_ - in_group);
    if (band.codes != nullptr) {
      part.codes = band.codes + channel;
      part.end = {mul_.data() + size_t{1} * begin * lanes, add_.data() + size_t{1} * begin * lanes, inverse_,
                  max_code_};
    } else {
      part.out = band.acc + channel;
    }
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
