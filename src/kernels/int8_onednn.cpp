#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "kernels/families.h"
#include "kernels/onednn_cap.h"
#include "kernels/onednn_conv.h"
#include "kernels/parallel.h"

namespace bitstrata::kernels {
namespace {

constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// The integers below this are exact in float32.
constexpr int64_t kFloatExact = int64_t{1} << 24;

/// What keeps a oneDNN implementation from being exact on all operands (2.6, checked by the tests): without
/// VNNI it adds pairs of products in 16 bits with saturation, except in depthwise code; and all but the "brg"
/// implementations pass the int32 sums through float32.
struct Limits {
  bool saturates, passes_float;
};

bool any_starts_with(const std::vector<std::string>& names, std::string_view prefix, bool expected) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return name.starts_with(prefix) == expected; });
}

bool is_depthwise(const ConvProblem& p) {
  return p.groups == p.ic && p.groups == p.oc && p.groups > 1;
}

/// Shapes for which AVX2 code of oneDNN 2.6 reads behind the last input byte, found by tests that end buffers
/// at a page: depthwise, and strided 1x1 windows over few channels (seen with one channel; refused with some
/// margin).
bool over_reads(const ConvProblem& p) {
  const program::Window& w = p.window;
  const bool strided_1x1 = w.kernel_h == 1 && w.kernel_w == 1 && (w.stride_h > 1 || w.stride_w > 1);
  return is_depthwise(p) || (strided_1x1 && p.ic < 8);
}

Limits limits_of(const ConvProblem& p, const std::vector<std::string>& implementations, Isa held) {
  return {held < Isa::kVnni && !is_depthwise(p),
          held < Isa::kVnni || any_starts_with(implementations, "brg", false)};
}

/// How stored weights (grid integers, or u - 128 where these exceed int8) are cut into digits of a smaller
/// base, each convolved on its own: w = sum of digit[i] * 2^(bits * i), the top digit signed, the others not.
struct Digits {
  int bits = 8, parts = 1;
  int at(int w, int i) const noexcept {
    return i == parts - 1 ? w >> (bits * i) : (w >> (bits * i)) & ((1 << bits) - 1);
  }
};

/// Fewest digits for which no sum of products of any input is inexact. weights: [oc, reduction].
Digits choose_digits(std::span<const int8_t> weights, size_t reduction, int max_code, Limits limits) {
  const auto [low, high] = std::minmax_element(weights.begin(), weights.end());
  int width = 1;
  while (*low < -(1 << (width - 1)) || *high > (1 << (width - 1)) - 1) ++width;
  const auto exact = [&](Digits digits) {
    for (size_t first = 0; first < weights.size(); first += reduction) {
      for (int part = 0; part < digits.parts; ++part) {
        int64_t positive = 0, negative = 0;
        int largest = 0;
        for (size_t i = first; i < first + reduction; ++i) {
          const int digit = digits.at(weights[i], part);
          (digit > 0 ? positive : negative) += std::abs(digit);
          largest = std::max(largest, std::abs(digit));
        }
        if (limits.saturates && 2 * max_code * largest > 32767) return false;
        if (limits.passes_float && max_code * std::max(positive, negative) > kFloatExact) return false;
      }
    }
    return true;
  };
  for (int bits : {8, 4, 3}) {
    const Digits digits{bits, std::max(1, (width + bits - 1) / bits)};
    if (exact(digits)) return digits;
  }
  return {2, (width + 1) / 2};  // always exact for what refuses() accepts
}

OnednnShape shape_of(const ConvProblem& p, int parts) {
  OnednnShape shape{p.ic,     p.ih,     p.iw,        p.oc * parts,  p.oh, p.ow,
                    p.groups, p.window, p.max_batch, p.max_threads, false};
  program::Window& w = shape.window;
  if (p.a_zero != 0) {  // padding is written into a copy of the input: oneDNN pads with code 0 only
    shape.ih += w.pad_top + w.pad_bottom;
    shape.iw += w.pad_left + w.pad_right;
    w.pad_top = w.pad_bottom = w.pad_left = w.pad_right = 0;
  }
  return shape;
}

/// acc = (S << mul_shift) + value_factor * sum of codes in the window + bias, with S the convolution of codes
/// and stored weights.
class Int8Conv final : public ConvKernel {
 public:
  Int8Conv(const ConvProblem& problem, std::span<const uint8_t> codes, Isa held);

  size_t scratch_bytes(int) const noexcept override {
    return conv_scratch_bytes_ + src_bytes_ + raw_bytes_ + sums_bytes_ + window_sums_bytes_;
  }
  size_t weight_bytes() const noexcept override {
    return conv_->weight_bytes() + bias_.size() * sizeof(int32_t);
  }
  std::string implementation() const override {
    return "onednn " + OnednnConv::implementations(shape_).front() +
           (digits_.parts > 1 ? fmt::format(" x{}", digits_.parts) : "");
  }
  void run(const uint8_t* src, int n, int32_t* acc, void* scratch, int threads) const noexcept override;
  bool fuse(const Requantization& end) override;
  void run_codes(const uint8_t* src, int n, uint8_t* codes, void* scratch,
                 int threads) const noexcept override;

 private:
  void pad(const uint8_t* src, int batch, uint8_t* out, int team) const noexcept;
  void sum_channels(const uint8_t* src, int batch, int32_t* sums, int team) const noexcept;
  void sum_windows(const int32_t* sums, int batch, int32_t* out, int team) const noexcept;
  void add_row(const uint32_t* in, int shift, uint32_t* total) const noexcept;
  void finish(const int32_t* raw, const int32_t* window_sums, int batch, int32_t* acc,
              int team) const noexcept;

  ConvProblem p_;
  OnednnShape shape_;
  Digits digits_;
  int mul_shift_ = 0, value_factor_ = 0;
  bool pads_ = false, finishes_ = false;
  std::vector<int32_t> bias_;    ///< [oc]
  std::vector<int8_t> weights_;  ///< as given to conv_; only until fuse()
  std::unique_ptr<OnednnConv> conv_;
  size_t conv_scratch_bytes_ = 0, src_bytes_ = 0, raw_bytes_ = 0, sums_bytes_ = 0, window_sums_bytes_ = 0;
};

Int8Conv::Int8Conv(const ConvProblem& problem, std::span<const uint8_t> codes, Isa held) : p_(problem) {
  if (p_.max_threads == 0) p_.max_threads = max_threads();
  const int top = (1 << p_.w_bits) - 1;
  const bool direct = p_.grid.at(0) >= -128 && p_.grid.at(top) <= 127;
  if (!direct) {
    mul_shift_ = p_.grid.mul == 2 ? 1 : 0;
    value_factor_ = p_.grid.offset + 128 * p_.grid.mul;
  }
  const size_t reduction = p_.reduction();
  std::vector<int8_t> stored(codes.size());
  bias_.assign(p_.oc, 0);
  for (int o = 0; o < p_.oc; ++o) {
    int64_t sum = 0;
    for (size_t i = o * reduction; i < (o + 1) * reduction; ++i) {
      stored[i] = static_cast<int8_t>(direct ? p_.grid.at(codes[i]) : codes[i] - 128);
      sum += p_.grid.at(codes[i]);
    }
    bias_[o] = static_cast<int32_t>(p_.a_zero * sum);
  }
  digits_ = choose_digits(stored, reduction, (1 << p_.a_bits) - 1,
                          limits_of(p_, OnednnConv::implementations(shape_of(p_, 1)), held));

  // Digits become output channels: [groups][parts][oc / groups].
  const int group_oc = p_.oc / p_.groups;
  std::vector<int8_t> weights;
  weights.reserve(stored.size() * digits_.parts);
  for (int g = 0; g < p_.groups; ++g) {
    for (int part = 0; part < digits_.parts; ++part) {
      for (size_t i = g * group_oc * reduction; i < (g + 1) * group_oc * reduction; ++i) {
        weights.push_back(static_cast<int8_t>(digits_.at(stored[i], part)));
      }
    }
  }
  shape_ = shape_of(p_, digits_.parts);
  if (digits_.parts == 1) weights_ = weights;
  conv_ = std::make_unique<OnednnConv>(shape_, weights.data(), nullptr);

  const program::Window& w = p_.window;
  pads_ = p_.a_zero != 0 && (w.pad_top | w.pad_bottom | w.pad_left | w.pad_right) != 0;
  finishes_ = digits_.parts > 1 || mul_shift_ != 0 || value_factor_ != 0 || p_.a_zero != 0;
  const size_t src_pixels = size_t{1} * p_.max_batch * shape_.ih * shape_.iw;
  const size_t dst_pixels = size_t{1} * p_.max_batch * p_.oh * p_.ow;
  conv_scratch_bytes_ = round_up(conv_->scratch_bytes(), 64);
  if (pads_) src_bytes_ = round_up(src_pixels * p_.ic, 64);
  if (digits_.parts > 1) raw_bytes_ = round_up(dst_pixels * shape_.oc * sizeof(int32_t), 64);
  if (value_factor_ != 0) {
    sums_bytes_ = round_up(src_pixels * p_.groups * sizeof(int32_t), 64);
    window_sums_bytes_ = round_up(dst_pixels * p_.groups * sizeof(int32_t), 64);
  }
}

void Int8Conv::pad(const uint8_t* src, int batch, uint8_t* out, int team) const noexcept {
  const size_t src_row = size_t{1} * p_.iw * p_.ic, out_row = size_t{1} * shape_.iw * p_.ic;
  const size_t left = size_t{1} * p_.window.pad_left * p_.ic;
  const int64_t rows = int64_t{batch} * shape_.ih;
#pragma omp parallel for num_threads(team) if (team > 1)
  for (int64_t i = 0; i < rows; ++i) {
    uint8_t* row = out + i * out_row;
    const int64_t image = i / shape_.ih, y = i % shape_.ih - p_.window.pad_top;
    std::memset(row, -p_.a_zero, out_row);
    if (y >= 0 && y < p_.ih) std::memcpy(row + left, src + (image * p_.ih + y) * src_row, src_row);
  }
}

void Int8Conv::sum_channels(const uint8_t* src, int batch, int32_t* sums, int team) const noexcept {
  const int group_ic = p_.ic / p_.groups;
  const int64_t rows = int64_t{batch} * shape_.ih, row_sums = int64_t{shape_.iw} * p_.groups;
#pragma omp parallel for num_threads(team) if (team > 1)
  for (int64_t i = 0; i < rows; ++i) {
    if (group_ic == 1) {
      std::copy_n(src + i * row_sums, row_sums, sums + i * row_sums);
      continue;
    }
    for (int64_t j = i * row_sums; j < (i + 1) * row_sums; ++j) {
      uint32_t sum = 0;
      for (int c = 0; c < group_ic; ++c) sum += src[j * group_ic + c];
      sums[j] = static_cast<int32_t>(sum);
    }
  }
}

// sums: per pixel and group of the input, out: per output pixel and group. Padding that oneDNN adds has code
// 0.
void Int8Conv::sum_windows(const int32_t* sums, int batch, int32_t* out, int team) const noexcept {
  const program::Window& w = shape_.window;
  const size_t image = size_t{1} * shape_.ih * shape_.iw * p_.groups;
  const int64_t rows = int64_t{batch} * p_.oh;
#pragma omp parallel for num_threads(team) if (team > 1)
  for (int64_t i = 0; i < rows; ++i) {
    const int y = static_cast<int>(i % p_.oh);
    auto* total = reinterpret_cast<uint32_t*>(out) + i * p_.ow * p_.groups;
    std::fill_n(total, size_t{1} * p_.ow * p_.groups, 0);
    for (int ky = 0; ky < w.kernel_h; ++ky) {
      const int iy = y * w.stride_h - w.pad_top + ky * w.dilation_h;
      if (iy < 0 || iy >= shape_.ih) continue;
      for (int kx = 0; kx < w.kernel_w; ++kx) {
        add_row(reinterpret_cast<const uint32_t*>(sums) + i / p_.oh * image +
                    size_t{1} * iy * shape_.iw * p_.groups,
                kx * w.dilation_w - w.pad_left, total);
      }
    }
  }
}

// total[x][g] += in[x * stride + shift][g] where that exists.
void Int8Conv::add_row(const uint32_t* in, int shift, uint32_t* total) const noexcept {
  const int stride = p_.window.stride_w, groups = p_.groups;
  const int first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
  const int last = std::min(p_.ow, shape_.iw > shift ? (shape_.iw - 1 - shift) / stride + 1 : 0);
  if (first >= last) return;
  if (stride == 1) {
    in += int64_t{first + shift} * groups;
    total += int64_t{first} * groups;
    for (int64_t i = 0; i < int64_t{last - first} * groups; ++i) total[i] += in[i];
    return;
  }
  for (int x = first; x < last; ++x) {
    const uint32_t* from = in + (int64_t{x} * stride + shift) * groups;
    for (int g = 0; g < groups; ++g) total[int64_t{x} * groups + g] += from[g];
  }
}

// window_sums: [pixels][groups], or null. All arithmetic is modulo 2^32, in which the final value fits.
void Int8Conv::finish(const int32_t* raw, const int32_t* window_sums, int batch, int32_t* acc,
                      int team) const noexcept {
  const int group_oc = p_.oc / p_.groups, parts = digits_.parts;
  const int64_t rows = int64_t{batch} * p_.oh;
  const auto* bias = reinterpret_cast<const uint32_t*>(bias_.data());
  const auto factor = static_cast<uint32_t>(value_factor_);
#pragma omp parallel for num_threads(team) if (team > 1)
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t pixel = row * p_.ow; pixel < (row + 1) * p_.ow; ++pixel) {
      const auto* in = reinterpret_cast<const uint32_t*>(raw) + pixel * shape_.oc;
      auto* out = reinterpret_cast<uint32_t*>(acc) + pixel * p_.oc;
      const auto* sums = window_sums == nullptr
                             ? nullptr
                             : reinterpret_cast<const uint32_t*>(window_sums) + pixel * p_.groups;
      if (group_oc == 1 && parts == 1 && window_sums != nullptr) {
        for (int o = 0; o < p_.oc; ++o) out[o] = (in[o] << mul_shift_) + factor * sums[o] + bias[o];
        continue;
      }
      for (int g = 0; g < p_.groups; ++g, in += parts * group_oc) {
        const uint32_t shared = window_sums == nullptr ? 0 : factor * sums[g];
        const int first = g * group_oc;
        for (int o = 0; o < group_oc; ++o) out[first + o] = (in[o] << mul_shift_) + shared + bias[first + o];
        for (int part = 1; part < parts; ++part) {
          const int shift = digits_.bits * part + mul_shift_;
          for (int o = 0; o < group_oc; ++o) out[first + o] += in[part * group_oc + o] << shift;
        }
      }
    }
  }
}

void Int8Conv::run(const uint8_t* src, int n, int32_t* acc, void* scratch, int threads) const noexcept {
  auto* conv_scratch = static_cast<uint8_t*>(scratch);
  uint8_t* padded = conv_scratch + conv_scratch_bytes_;
  auto* raw_scratch = reinterpret_cast<int32_t*>(padded + src_bytes_);
  auto* sums = reinterpret_cast<int32_t*>(padded + src_bytes_ + raw_bytes_);
  auto* window_sums = reinterpret_cast<int32_t*>(padded + src_bytes_ + raw_bytes_ + sums_bytes_);
  const int team = std::clamp(threads, 1, p_.max_threads);
  while (n > 0) {
    const int batch = conv_->next_batch(n);
    const uint8_t* in = src;
    if (pads_) {
      pad(src, batch, padded, team);
      in = padded;
    }
    int32_t* raw = digits_.parts > 1 ? raw_scratch : acc;
    conv_->execute(in, batch, raw, conv_scratch, threads);
    if (value_factor_ != 0) {
      sum_channels(in, batch, sums, team);
      sum_windows(sums, batch, window_sums, team);
    }
    if (finishes_) finish(raw, value_factor_ != 0 ? window_sums : nullptr, batch, acc, team);
    src += size_t{1} * batch * p_.ih * p_.iw * p_.ic;
    acc += size_t{1} * batch * p_.oh * p_.ow * p_.oc;
    n -= batch;
  }
}

bool Int8Conv::fuse(const Requantization& end) {
  if (finishes_ || pads_) return false;
  // oneDNN 2.6 adds other channels' values in groups that leave part of a vector of channels unused.
  const int group_oc = p_.oc / p_.groups;
  if (p_.groups > 1 && group_oc > 1 && group_oc % 16 != 0) return false;
  try {
    if (any_starts_with(OnednnConv::implementations(shape_, &end), "ref", true)) return false;
    conv_ = std::make_unique<OnednnConv>(shape_, weights_.data(), nullptr, &end);
  } catch (const Error&) {
    return false;
  }
  weights_ = {};
  conv_scratch_bytes_ = round_up(conv_->scratch_bytes(), 64);
  return true;
}

void Int8Conv::run_codes(const uint8_t* src, int n, uint8_t* codes, void* scratch,
                         int threads) const noexcept {
  while (n > 0) {
    const int batch = conv_->next_batch(n);
    conv_->execute(src, batch, codes, scratch, threads);
    src += size_t{1} * batch * p_.ih * p_.iw * p_.ic;
    codes += size_t{1} * batch * p_.oh * p_.ow * p_.oc;
    n -= batch;
  }
}

template <Isa kIsa>
std::string refuses(const ConvProblem& problem, Isa cap) {
  const Isa held = cap_onednn(cap);
  if (held != kIsa) return fmt::format("oneDNN is held to {} in this process", to_string(held));
  if (kIsa == Isa::kAvx2 && over_reads(problem))
    return "oneDNN's AVX2 code reads behind its input for this shape";
  try {
    const std::vector<std::string> names = OnednnConv::implementations(shape_of(problem, 1));
    if (any_starts_with(names, "ref", true)) return "oneDNN has only its reference code for this shape";
    const int64_t smallest_digits = int64_t{3} * ((1 << problem.a_bits) - 1) * problem.reduction();
    const bool exact = smallest_digits <= kFloatExact || !limits_of(problem, names, held).passes_float;
    return exact ? "" : "its sums exceed the 2^24 that oneDNN keeps exact";
  } catch (const Error& error) {
    return error.what();
  }
}

template <Isa kIsa>
KernelEntry entry(const char* name) {
  return {name, Family::kInt8, kIsa, refuses<kIsa>,
          [](const ConvProblem& problem, std::span<const uint8_t> codes, Isa) -> std::unique_ptr<ConvKernel> {
            return std::make_unique<Int8Conv>(problem, codes, kIsa);
          }};
}

}  // namespace

std::vector<KernelEntry> int8_entries() {
  return {entry<Isa::kAmx>("conv_u8s8_onednn__amx"), entry<Isa::kVnni>("conv_u8s8_onednn__vnni"),
          entry<Isa::kAvx512>("conv_u8s8_onednn__avx512"), entry<Isa::kAvx2>("conv_u8s8_onednn__avx2")};
}

}  // namespace bitstrata::kernels
