#include "kernels/nibble.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "kernels/families.h"
#include "kernels/parallel.h"

namespace bitstrata::kernels {
namespace {

/// More pixels than this per image would read the weights too often.
constexpr int kMaxPixels = 4;
/// A team member's share of the blocks, in bytes of weights: less does not pay for waking it.
constexpr size_t kShareBytes = 64 << 10;

/// Fully connected layers of up to 4-bit weights, whose time is that of reading the weights: two codes per
/// byte, taken apart in registers.
class NibbleLinear final : public ConvKernel {
 public:
  NibbleLinear(const ConvProblem& problem, std::span<const uint8_t> codes, const NibbleTarget& target)
      : p_(problem), target_(target) {
    if (p_.max_threads == 0) p_.max_threads = max_threads();
    steps_ = (p_.ic + kNibbleStep - 1) / kNibbleStep;
    blocks_ = (p_.oc + target_.lanes - 1) / target_.lanes;
    if (target_.products_per_step > 0) {
      const int step = target_.products_per_step * ((1 << p_.w_bits) - 1) * ((1 << p_.a_bits) - 1);
      exact_steps_ = target_.max_sum / step;
    }
    pack(codes);
  }

  size_t scratch_bytes(int) const noexcept override { return 0; }
  size_t weight_bytes() const noexcept override { return weights_.size() + bias_.size() * sizeof(int32_t); }
  std::string implementation() const override { return target_.name; }

  void run(const uint8_t* src, int n, int32_t* acc, void*, int threads) const noexcept override {
    const int64_t pixels = int64_t{n} * p_.oh * p_.ow;
    const auto shares = static_cast<int>(std::min<size_t>(weights_.size() / kShareBytes + 1, blocks_));
    const int team = std::clamp(std::min(threads, shares), 1, p_.max_threads);
    for (int64_t first = 0; first < pixels; first += kNibblePixels) {
      uint8_t tails[kNibblePixels][kNibbleStep] = {};
      NibblePixels all{};
      all.pixels = static_cast<int>(std::min<int64_t>(kNibblePixels, pixels - first));
      all.steps = steps_;
      all.exact_steps = exact_steps_;
      all.mul_shift = p_.grid.mul == 2 ? 1 : 0;
      const size_t before_tail = size_t{kNibbleStep} * (steps_ - 1);
      for (int i = 0; i < all.pixels; ++i) {
        all.codes[i] = src + (first + i) * p_.ic;
        std::memcpy(tails[i], all.codes[i] + before_tail, p_.ic - before_tail);
        all.tails[i] = tails[i];
        all.shared[i] = p_.grid.offset == 0 ? 0 : static_cast<uint32_t>(p_.grid.offset) * sum(all.codes[i]);
      }
#pragma omp parallel for num_threads(team) if (team > 1) schedule(static)
      for (int member = 0; member < team; ++member) {
        const int begin = share(member, team), end = share(member + 1, team);
        if (begin == end) continue;
        NibblePixels part = all;
        part.weights = weights_.data() + size_t{4} * begin * steps_ * target_.lanes;
        part.bias = bias_.data() + size_t{1} * begin * target_.lanes;
        part.blocks = end - begin;
        const int channel = begin * target_.lanes;
        part.channels = std::min(part.blocks * target_.lanes, p_.oc - channel);
        for (int i = 0; i < all.pixels; ++i) part.out[i] = acc + (first + i) * p_.oc + channel;
        target_.run(part);
      }
    }
  }

 private:
  int share(int member, int team) const noexcept {
    return static_cast<int>(int64_t{blocks_} * member / team);
  }

  uint32_t sum(const uint8_t* codes) const noexcept {
    uint32_t total = 0;
    for (int i = 0; i < p_.ic; ++i) total += codes[i];
    return total;
  }

  void pack(std::span<const uint8_t> codes) {
    const int lanes = target_.lanes;
    weights_.assign(size_t{4} * blocks_ * steps_ * lanes, 0);
    bias_.assign(size_t{1} * blocks_ * lanes, 0);
    for (int o = 0; o < p_.oc; ++o) {
      const uint8_t* channel = codes.data() + size_t{1} * o * p_.ic;
      uint8_t* block = weights_.data() + size_t{4} * (o / lanes * size_t{1} * steps_ * lanes + o % lanes);
      int64_t total = 0;
      for (int i = 0; i < p_.ic; ++i) {
        uint8_t& byte = block[size_t{4} * (i / kNibbleStep) * lanes + i % 4];
        byte = static_cast<uint8_t>(byte | channel[i] << (i % kNibbleStep < 4 ? 0 : 4));
        total += p_.grid.at(channel[i]);
      }
      bias_[o] = static_cast<int32_t>(p_.a_zero * total);
    }
  }

  ConvProblem p_;
  NibbleTarget target_;
  int steps_, blocks_, exact_steps_ = 0;
  std::vector<uint8_t> weights_;  ///< as NibblePixels::weights, of all blocks
  std::vector<int32_t> bias_;     ///< [blocks * lanes]
};

void run_scalar(const NibblePixels& a) {
  for (int p = 0; p < a.pixels; ++p) {
    for (int o = 0; o < a.channels; ++o) {
      const uint8_t* weights = a.weights + size_t{4} * o * a.steps;
      uint32_t sum = 0;
      for (int step = 0; step < a.steps; ++step) {
        const uint8_t* codes = step + 1 == a.steps ? a.tails[p] : a.codes[p] + kNibbleStep * step;
        for (int j = 0; j < 4; ++j) {
          const uint32_t byte = weights[4 * step + j];
          sum += (byte & 15) * codes[j] + (byte >> 4) * codes[4 + j];
        }
      }
      a.out[p][o] =
          static_cast<int32_t>((sum << a.mul_shift) + a.shared[p] + static_cast<uint32_t>(a.bias[o]));
    }
  }
}

template <Isa kIsa>
NibbleTarget target() {
  if (kIsa == Isa::kScalar) return {1, "scalar", 0, 0, run_scalar};
  return nibble_target(kIsa);
}

template <Isa kIsa>
std::string refuses(const ConvProblem& p, Isa) {
  const program::Window& w = p.window;
  // Without padding, an output of the input's size means that every pixel has its own row of input.
  const bool padded = w.pad_top != 0 || w.pad_left != 0 || w.pad_bottom != 0 || w.pad_right != 0;
  const bool dense =
      p.groups == 1 && w.kernel_h == 1 && w.kernel_w == 1 && !padded && p.oh == p.ih && p.ow == p.iw;
  if (!dense || int64_t{p.oh} * p.ow > kMaxPixels) {
    return fmt::format("does fully connected layers on up to {} rows only", kMaxPixels);
  }
  if (p.w_bits > 4) return fmt::format("{} weight bits: half a byte holds up to 4", p.w_bits);
  if (target<kIsa>().lanes == 0) {
    return fmt::format("this CPU or build lacks the code for {}", to_string(kIsa));
  }
  return {};
}

template <Isa kIsa>
KernelEntry entry(const char* name) {
  return {name, Family::kInt8, kIsa, refuses<kIsa>,
          [](const ConvProblem& problem, std::span<const uint8_t> codes, Isa) -> std::unique_ptr<ConvKernel> {
            return std::make_unique<NibbleLinear>(problem, codes, target<kIsa>());
          }};
}

}  // namespace

std::vector<KernelEntry> nibble_entries() {
  return {entry<Isa::kVnni>("linear_u8u4__vnni"), entry<Isa::kAvx512>("linear_u8u4__avx512"),
          entry<Isa::kAvx2>("linear_u8u4__avx2"), entry<Isa::kNeon>("linear_u8u4__neon"),
          entry<Isa::kScalar>("linear_u8u4__scalar")};
}

}  // namespace bitstrata::kernels
