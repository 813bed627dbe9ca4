#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "kernels/families.h"

namespace bitstrata::kernels {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 31;

std::string describe(const ConvProblem& p) {
  return fmt::format("convolution {}x{}x{} -> {}x{}x{}, kernel {}x{}, groups {}, W{}A{}", p.ic, p.ih, p.iw,
                     p.oc, p.oh, p.ow, p.window.kernel_h, p.window.kernel_w, p.groups, p.w_bits, p.a_bits);
}

void check(bool condition, const ConvProblem& p, std::string_view what) {
  if (!condition) fail(ErrorCode::kInvalidArgument, "{}: {}", describe(p), what);
}

int64_t output_size(int64_t in, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
  const int64_t room = in + pads - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

/// Why an entry cannot even be asked: empty when `cap` and this machine allow its instructions.
std::string isa_refusal(const KernelEntry& entry, Isa cap) {
  const auto& available = available_isas();
  if (std::find(available.begin(), available.end(), entry.isa) == available.end()) {
    return fmt::format("this machine lacks {}", to_string(entry.isa));
  }
  if (entry.isa > cap) return fmt::format("capped at {}", to_string(cap));
  return {};
}

std::string refusal(const KernelEntry& entry, const ConvProblem& problem, Isa cap) {
  const std::string by_isa = isa_refusal(entry, cap);
  return by_isa.empty() ? entry.refuses(problem, cap) : by_isa;
}

}  // namespace

const char* to_string(Family family) noexcept {
  switch (family) {
    case Family::kReference:
      return "reference";
    case Family::kBitplane:
      return "bitplane";
    case Family::kLookup:
      return "lookup";
    case Family::kInt8:
      return "int8";
    case Family::kDirect:
      return "direct";
  }
  return "reference";
}

void validate(const ConvProblem& p) {
  const program::Window& w = p.window;
  for (int size : {p.ic, p.ih, p.iw, p.oc, p.oh, p.ow, p.groups, w.kernel_h, w.kernel_w, w.stride_h,
                   w.stride_w, w.dilation_h, w.dilation_w, p.max_batch}) {
    check(size >= 1, p, "sizes, strides, dilations, groups and the batch must be at least 1");
  }
  for (int pad : {w.pad_top, w.pad_left, w.pad_bottom, w.pad_right, p.max_threads}) {
    check(pad >= 0, p, "padding and the number of threads must not be negative");
  }
  check(p.ic % p.groups == 0 && p.oc % p.groups == 0, p, "groups must divide the input and output channels");
  check(p.w_bits >= 1 && p.w_bits <= 8 && p.a_bits >= 1 && p.a_bits <= 8, p, "bits must be in 1..8");
  const int max_code = (1 << p.a_bits) - 1;
  check(p.a_zero <= 0 && p.a_zero >= -max_code, p,
        fmt::format("zero point {} must be in [-{}, 0]", p.a_zero, max_code));
  const int64_t padded_h = int64_t{p.ih} + w.pad_top + w.pad_bottom,
                padded_w = int64_t{p.iw} + w.pad_left + w.pad_right;
  check(p.oh == output_size(padded_h, 0, w.kernel_h, w.stride_h, w.dilation_h) &&
            p.ow == output_size(padded_w, 0, w.kernel_w, w.stride_w, w.dilation_w),
        p, "the output size does not follow from input, window and padding");
  check((p.grid.mul == 1 || p.grid.mul == 2) && p.grid.offset <= 0 && p.grid.offset >= -255, p,
        fmt::format("weight grid {} * u + {} is none of docs/arithmetic.md", p.grid.mul, p.grid.offset));

  const int64_t taps = int64_t{w.kernel_h} * w.kernel_w;
  const bool sizes_fit = padded_h <= kMaxElements / padded_w && padded_h * padded_w <= kMaxElements / p.ic &&
                         int64_t{p.oh} * p.ow <= kMaxElements / p.oc && taps <= kMaxElements / p.ic &&
                         p.ic / p.groups * taps <= kMaxElements / p.oc;
  if (!sizes_fit)
    fail(ErrorCode::kUnsupported, "{}: more than 2^31 elements in the padded input, output or weights",
         describe(p));
  const int64_t max_weight = std::max(std::abs(p.grid.at(0)), std::abs(p.grid.at((1 << p.w_bits) - 1)));
  const int64_t max_value = std::max(-p.a_zero, max_code + p.a_zero);
  if (max_weight * max_value * (p.ic / p.groups * taps) >= kMaxElements) {
    fail(ErrorCode::kUnsupported, "{}: its sums could reach 2^31; use fewer bits or fewer channels",
         describe(p));
  }
}

const std::vector<KernelEntry>& conv_kernels() {
  static const std::vector<KernelEntry> all = [] {
    std::vector<KernelEntry> entries = int8_entries();
    for (KernelEntry& entry : narrow_entries()) entries.push_back(std::move(entry));
    for (KernelEntry& entry : winograd_entries()) entries.push_back(std::move(entry));
    for (KernelEntry& entry : nibble_entries()) entries.push_back(std::move(entry));
    for (KernelEntry& entry : depthwise_entries()) entries.push_back(std::move(entry));
    for (KernelEntry& entry : lookup_entries()) entries.push_back(std::move(entry));
    for (KernelEntry& entry : bitplane_entries()) entries.push_back(std::move(entry));
    entries.push_back(reference_entry());
    return entries;
  }();
  return all;
}

namespace {

double fill(int used, int unit) {
  return double(used) / ((used + unit - 1) / unit * unit);
}

// Bit planes: part of the words' bits and of the vectors' lanes that carry channels.
double used_fraction(const ConvProblem& p, int lanes) {
  return fill(p.ic / p.groups, 32) * fill(p.oc / p.groups, lanes);
}

// oneDNN without VNNI: 16-bit pair sums that could saturate cost a second convolution, and so do sums beyond
// float32's integers. Those of evenly spread weights of one sign are about a quarter of the largest.
bool needs_two_digits(const ConvProblem& p) {
  const int max_code = (1 << p.a_bits) - 1;
  const int max_weight = std::max(std::abs(p.grid.at(0)), std::abs(p.grid.at((1 << p.w_bits) - 1)));
  const int stored = std::min(max_weight, 128);
  return 2 * max_code * stored > 32767 || 0.25 * max_code * stored * p.reduction() > (1 << 24);
}

// Lookups: one per weight plane, or, for codes of one bit, per plane of two pixels; sums of codes of many
// bits are widened after every few of them.
double lookup_gmacs(Isa isa, const ConvProblem& p) {
  const int group_ic = p.ic / p.groups, group_oc = p.oc / p.groups;
  const double steps = 255 / (4 * ((1 << p.a_bits) - 1)), widening = 1 + 0.7 / steps;
  const bool pairs = p.a_bits == 1 && p.w_bits <= 2 && p.ow > 1;
  const double used =
      group_ic / (4.0 * ((group_ic + 3) / 4)) * std::min(1.0, group_oc * std::min(p.w_bits, 2) / 16.0);
  const double speed = (pairs ? 1.4 : 1) * used / (p.w_bits * widening);
  switch (isa) {
    case Isa::kNeon:
      return 150 * speed;
    case Isa::kScalar:
      return 4 * speed;
    default:
      return 400 * speed;
  }
}

// Narrow int8: as used_fraction() for the bytes of a step and the lanes. Where 16-bit sums hold the products
// of a few steps only, they are widened after each of these; where they hold none, operands are.
double narrow_gmacs(Isa isa, const ConvProblem& p) {
  const double bytes = fill(p.ic / p.groups * (p.window.dilation_w == 1 ? p.window.kernel_w : 1), 4);
  const int steps = 32767 / (((1 << p.a_bits) - 1) << p.w_bits);
  const double widening = 1 + 0.8 / std::max(steps, 1);
  const int group_oc = p.oc / p.groups;
  switch (isa) {
    case Isa::kAmx:
    case Isa::kVnni:
      return 300 * bytes * fill(group_oc, 16);
    case Isa::kAvx512:
      return (steps == 0 ? 120 : steps < 4 ? 140 : 200 / widening) * bytes * fill(group_oc, 16);
    case Isa::kAvx2:
      return (steps == 0 ? 85 : steps < 4 ? 105 : 145 / widening) * bytes * fill(group_oc, 8);
    case Isa::kNeon:
      return 30 * bytes * fill(group_oc, 4);
    case Isa::kScalar:
      return 2 * bytes;
  }
  return 0;
}

// Winograd: as multiplications in narrow_gmacs(), 2.25 times as many of them, less the transforms, which the
// channels share.
double winograd_gmacs(Isa isa, const ConvProblem& p) {
  const bool bytes = p.w_bits <= 4 && p.a_bits <= 6;
  const double multiplying = isa == Isa::kAvx2     ? (bytes ? 290 : 190)
                             : isa == Isa::kAvx512 ? (bytes ? 350 : 200)
                                                   : 500;
  const double tiles = fill(p.oh, 2) * fill(p.ow, 2) * fill(p.oc, isa == Isa::kAvx2 ? 8 : 16);
  return tiles / (1 / multiplying + 0.077 / p.ic);
}

}  // namespace

double expected_gmacs(const KernelEntry& entry, const ConvProblem& problem) {
  const double planes = problem.w_bits * problem.a_bits;
  switch (entry.family) {
    case Family::kReference:
      return 0.1;
    case Family::kBitplane:
      switch (entry.isa) {
        case Isa::kAmx:
        case Isa::kVnni:
          return 1050 / planes * used_fraction(problem, 16);
        case Isa::kAvx512:
          return 650 / planes * used_fraction(problem, 16);
        case Isa::kAvx2:
          return 400 / planes * used_fraction(problem, 8);
        case Isa::kNeon:
          return 150 / planes * used_fraction(problem, 4);
        case Isa::kScalar:
          return 10 / planes * used_fraction(problem, 1);
      }
      break;
    case Family::kLookup:
      return lookup_gmacs(entry.isa, problem);
    case Family::kDirect:
      return entry.isa == Isa::kScalar ? 1 : entry.isa == Isa::kAvx512 ? 20 : 15;
    case Family::kInt8:
      if (entry.name.starts_with("conv_u8s8_narrow")) return narrow_gmacs(entry.isa, problem);
      if (entry.name.starts_with("conv_u8s8_winograd")) return winograd_gmacs(entry.isa, problem);
      // As the narrow kernel, but weights are read at half the bytes, which is what their time goes into.
      if (entry.name.starts_with("linear_u8u4")) return 1.5 * narrow_gmacs(entry.isa, problem);
      if (problem.groups == problem.ic && problem.groups > 1) {
        return problem.w_bits == 8 && problem.grid.mul == 2
                   ? 5
                   : 30;  // 8-bit odd weights need sums of codes per channel
      }
      switch (entry.isa) {
        case Isa::kAmx:
          return 1300;
        case Isa::kVnni:
          return 330;
        case Isa::kAvx512:
          return needs_two_digits(problem) ? 75 : 150;
        default:
          return needs_two_digits(problem) ? 55 : 110;
      }
  }
  return 0;
}

std::vector<Verdict> explain_conv(const ConvProblem& problem, Isa cap) {
  validate(problem);
  std::vector<Verdict> verdicts;
  Verdict* best = nullptr;
  verdicts.reserve(conv_kernels().size());
  for (const KernelEntry& entry : conv_kernels()) {
    Verdict& verdict = verdicts.emplace_back(Verdict{&entry, false, false, refusal(entry, problem, cap)});
    verdict.refused = !verdict.reason.empty();
    if (verdict.refused) continue;
    if (best == nullptr || expected_gmacs(entry, problem) > expected_gmacs(*best->entry, problem))
      best = &verdict;
  }
  for (Verdict& verdict : verdicts) {
    verdict.chosen = &verdict == best;
    if (verdict.chosen || !verdict.reason.empty()) continue;
    verdict.reason = fmt::format("expected slower: {:.3g} GMAC/s against {:.3g} of {}",
                                 expected_gmacs(*verdict.entry, problem),
                                 expected_gmacs(*best->entry, problem), best->entry->name);
  }
  return verdicts;
}

const KernelEntry& select_conv(const ConvProblem& problem, Isa cap, const Family* only) {
  validate(problem);
  const KernelEntry* best = nullptr;
  std::string refusals;
  for (const KernelEntry& entry : conv_kernels()) {
    if (only != nullptr && entry.family != *only) continue;
    const std::string reason = refusal(entry, problem, cap);
    if (!reason.empty()) {
      refusals += fmt::format("{}{}: {}", refusals.empty() ? "" : "; ", entry.name, reason);
    } else if (best == nullptr || expected_gmacs(entry, problem) > expected_gmacs(*best, problem)) {
      best = &entry;
    }
  }
  if (best == nullptr) fail(ErrorCode::kUnsupported, "no kernel for {}: {}", describe(problem), refusals);
  return *best;
}

}  // namespace bitstrata::kernels
