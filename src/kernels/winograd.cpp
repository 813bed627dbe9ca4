#include "kernels/winograd.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "kernels/families.h"
#include "kernels/row_conv.h"

// Winograd's minimal filtering F(2x2, 3x3) in integers (Lavin and Gray, https://arxiv.org/abs/1509.09308):
// 16 multiplications a channel for four outputs instead of 36. With twice the weights' transform in each
// dimension, every transformed value is an integer and the sums are four times what they should be, a
// division that is exact. Nothing rounds, so that only sums of 2^29 and more cannot be told apart modulo
// 2^32.
namespace bitstrata::kernels {
namespace {

/// Written behind each part of a transformed row, as whole vectors are stored.
constexpr size_t kSlack = 64;
/// The position that adds up four codes and so is never negative.
constexpr int kSumPosition = 5;

constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Weight code u stored as mul * u + offset. With S the convolution of codes and stored weights,
/// sum w v = (S << mul_shift) + value_factor * sum of codes.
struct Stored {
  int mul, offset;
  int mul_shift = 0, value_factor = 0;
  int at(int u) const noexcept { return mul * u + offset; }
  int largest(int w_bits) const noexcept {
    return std::max(std::abs(at(0)), std::abs(at((1 << w_bits) - 1)));
  }
};

Stored choose_stored(const ConvProblem& p) {
  const Stored direct{p.grid.mul, p.grid.offset};
  const int centre = 1 << (p.w_bits - 1);
  const Stored centred{1, -centre, p.grid.mul == 2 ? 1 : 0, p.grid.offset + centre * p.grid.mul};
  return 9 * direct.largest(p.w_bits) <= 127 || 9 * centred.largest(p.w_bits) > 127 ? direct : centred;
}

/// Transformed codes are in [0, 4 * largest code], transformed weights up to nine times the largest.
bool fits_bytes(const ConvProblem& p) {
  return 4 * ((1 << p.a_bits) - 1) <= 255 && 9 * choose_stored(p).largest(p.w_bits) <= 127;
}

/// Whether a step's 16-bit sums could overflow, whatever the weights.
bool is_wide(const WinogradTarget& target, const ConvProblem& p) {
  const int max_code = 4 * ((1 << p.a_bits) - 1), max_weight = 9 * choose_stored(p).largest(p.w_bits);
  return !fits_bytes(p) ||
         (target.products_per_step > 0 && target.products_per_step * max_weight * max_code > target.max_sum);
}

/// Adds the positive weights of a step to `positive` and the negative ones, as they are, to `negative`:
/// kProducts weights to each sum.
template <int kProducts>
void add_weights(const int8_t* weights, std::vector<int>& positive, std::vector<int>& negative) {
  const int sums = static_cast<int>(positive.size());
  int* more = positive.data();
  int* less = negative.data();
  for (int i = 0; i < sums; ++i) {
    for (int j = 0; j < kProducts; ++j) {
      const int weight = weights[i * kProducts + j];
      more[i] += std::max(weight, 0);
      less[i] += std::min(weight, 0);
    }
  }
}

/// True when no 16-bit sum of `part` steps, the first of which are 0, part, 2 * part, ..., can overflow:
/// neither the positive nor the negative weights do when all codes are max_code. weights: [steps][lanes][4].
bool parts_fit(const WinogradTarget& target, const int8_t* weights, int steps, int lanes, int part,
               int max_code) {
  const int products = target.products_per_step;
  if (products == 0) return true;
  std::vector<int> positive(lanes * 4 / products), negative(positive.size());
  for (int first = 0; first < steps; first += part) {
    std::ranges::fill(positive, 0);
    std::ranges::fill(negative, 0);
    for (int step = first; step < std::min(first + part, steps); ++step) {
      const int8_t* own = weights + size_t{4} * step * lanes;
      products == 2 ? add_weights<2>(own, positive, negative) : add_weights<1>(own, positive, negative);
    }
    const int largest = std::max(*std::ranges::max_element(positive), -*std::ranges::min_element(negative));
    if (largest * max_code > target.max_sum) return false;
  }
  return true;
}

class WinogradKernel final : public RowKernel {
 public:
  WinogradKernel(const ConvProblem& problem, std::span<const uint8_t> codes, const WinogradTarget& target);

  size_t row_bytes() const noexcept override { return 4 * part_bytes_ + sums_bytes_; }
  void prepare(const uint8_t* codes, uint8_t* row) const noexcept override;
  int blocks() const noexcept override { return (blocks_ + kWinogradBlocks - 1) / kWinogradBlocks; }
  int band_pixels() const noexcept override { return 4 * target_.band_tiles; }
  int row_multiple() const noexcept override { return 2; }
  bool shares_channels() const noexcept override { return true; }
  void compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept override;
  size_t scratch_bytes(int rows) const noexcept override { return parts_of(rows, nullptr).bytes; }
  size_t weight_bytes() const noexcept override {
    return weights_.size() + constants_.size() * sizeof(int32_t);
  }
  std::string implementation() const override { return target_.name; }

 private:
  /// The scratch of compute().
  struct Parts {
    uint8_t* values;    ///< [16][position_bytes]: transformed codes
    int32_t* products;  ///< [16][tiles of a chunk][lanes of a chunk]
    uint32_t* terms;    ///< [rows][ow]: WinogradOutputs::pixel_terms
    size_t position_bytes, bytes;
  };

  struct TilePlace {
    int y, x;
  };

  Parts parts_of(int rows, uint8_t* scratch) const noexcept;
  /// Of one output channel.
  struct ChannelSums {
    int64_t weights = 0;
    std::array<int, kWinogradPositions> positions{};  ///< of transformed weights
  };
  void pack_weights(std::span<const uint8_t> codes);
  template <class Weight>
  void pack_channels(std::span<const uint8_t> codes, int o, int first, int last, ChannelSums& sums);
  void make_constants(int o, const ChannelSums& sums);
  void divide_steps();
  void transform_rows(const RowBand& band, const Parts& parts) const noexcept;
  void pixel_terms(const RowBand& band, uint32_t* out) const noexcept;
  TilePlace place_of(int tile) const noexcept { return {tile / row_tiles_, tile % row_tiles_}; }
  WinogradProducts::Range range_of(int position, int rows, TilePlace from, TilePlace end) const noexcept;
  void compute_chunk(const RowBand& band, const Parts& parts, int chunk, int first_tile,
                     int tiles) const noexcept;
  /// Tiles per row that have products in this column of positions.
  int tiles_of(int column) const noexcept { return column == 3 ? p_.ow / 2 : row_tiles_; }
  /// From four times the sums of products with stored weights to those with the layer's.
  int output_shift() const noexcept { return 2 - stored_.mul_shift; }
  /// Of the last chunk of channels, the others have kWinogradBlocks.
  int blocks_of(int chunk) const noexcept {
    return std::min(kWinogradBlocks, blocks_ - chunk * kWinogradBlocks);
  }

  ConvProblem p_;
  WinogradTarget target_;
  Stored stored_;
  bool wide_;
  int lanes_, blocks_, padded_w_, row_tiles_, padded_ic_, steps_;
  int shift_ = 0;  ///< added to transformed codes, to make them unsigned
  size_t part_bytes_, sums_bytes_;
  std::vector<int> part_steps_;     ///< [chunks][16]: see WinogradProducts
  std::vector<uint8_t> weights_;    ///< [chunks][16][steps][blocks of a chunk][lanes][4], or [..][2] int16_t
  std::vector<int32_t> constants_;  ///< [chunks][4][lanes of a chunk]: see WinogradOutputs
};

WinogradKernel::WinogradKernel(const ConvProblem& problem, std::span<const uint8_t> codes,
                               const WinogradTarget& target)
    : p_(problem), target_(target), stored_(choose_stored(problem)), wide_(is_wide(target, problem)) {
  lanes_ = target_.lanes;
  blocks_ = (p_.oc + lanes_ - 1) / lanes_;
  padded_w_ = p_.iw + p_.window.pad_left + p_.window.pad_right;
  row_tiles_ = (p_.ow + 1) / 2;
  padded_ic_ = static_cast<int>(round_up(p_.ic, wide_ ? 2 : 4));
  steps_ = padded_ic_ / (wide_ ? 2 : 4);
  if (wide_) {
    stored_ = {p_.grid.mul, p_.grid.offset};
  } else {
    shift_ = 2 * ((1 << p_.a_bits) - 1);
  }
  part_bytes_ = round_up(size_t{4} * steps_ * row_tiles_ + kSlack, 64);
  sums_bytes_ = stored_.value_factor != 0 ? padded_w_ * sizeof(uint32_t) : 0;
  pack_weights(codes);
}

// Twice the one-dimensional transform of a kernel.
std::array<int, 4> transform(int g0, int g1, int g2) {
  return {2 * g0, g0 + g1 + g2, g0 - g1 + g2, 2 * g2};
}

// Four times the 2x2 outputs that a tile of products stands for.
std::array<int, 4> outputs_of(const std::array<int, kWinogradPositions>& m) {
  std::array<int, 4> outputs{};
  constexpr int kFactors[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
  for (int output = 0; output < 4; ++output) {
    for (int i = 0; i < kWinogradPositions; ++i)
      outputs[output] += kFactors[output / 2][i / 4] * kFactors[output % 2][i % 4] * m[i];
  }
  return outputs;
}

void WinogradKernel::pack_weights(std::span<const uint8_t> codes) {
  weights_.assign(size_t{4} * kWinogradPositions * blocks_ * steps_ * lanes_, 0);
  constants_.assign(size_t{4} * blocks_ * lanes_, 0);
  std::vector<ChannelSums> sums(p_.oc);
  // Parts of the input channels whose weights, of all positions, stay in a cache.
  constexpr int kChannels = 64;
  for (int chunk = 0; chunk < blocks(); ++chunk) {
    const int first = chunk * kWinogradBlocks * lanes_,
              last = std::min(first + blocks_of(chunk) * lanes_, p_.oc);
    for (int c = 0; c < p_.ic; c += kChannels) {
      for (int o = first; o < last; ++o) {
        const int end = std::min(c + kChannels, p_.ic);
        wide_ ? pack_channels<uint16_t>(codes, o, c, end, sums[o])
              : pack_channels<uint8_t>(codes, o, c, end, sums[o]);
      }
    }
    for (int o = first; o < last; ++o) make_constants(o, sums[o]);
  }
  if (!wide_) divide_steps();
}

// Of output channel o, input channels [first, last). Weight: uint8_t or uint16_t, as `wide_` has it.
template <class Weight>
void WinogradKernel::pack_channels(std::span<const uint8_t> codes, int o, int first, int last,
                                   ChannelSums& sums) {
  constexpr int kBytes = sizeof(Weight), kPerStep = 4 / kBytes;
  const int chunk = o / lanes_ / kWinogradBlocks, lanes = blocks_of(chunk) * lanes_;
  const int lane = o - chunk * kWinogradBlocks * lanes_;
  uint8_t* weights =
      weights_.data() + size_t{4} * kWinogradPositions * chunk * kWinogradBlocks * steps_ * lanes_;
  for (int c = first; c < last; ++c) {
    const uint8_t* kernel = codes.data() + size_t{9} * (size_t{1} * o * p_.ic + c);
    for (int i = 0; i < 9; ++i) sums.weights += p_.grid.at(kernel[i]);
    const auto g = [&](int i) { return stored_.at(kernel[i]); };
    const auto top = transform(g(0), g(1), g(2)), middle = transform(g(3), g(4), g(5)),
               bottom = transform(g(6), g(7), g(8));
    for (int j = 0; j < 4; ++j) {
      const auto column = transform(top[j], middle[j], bottom[j]);
      for (int i = 0; i < 4; ++i) {
        const int position = 4 * i + j;
        const auto weight = static_cast<Weight>(column[i]);
        sums.positions[position] += column[i];
        const size_t step = size_t{1} * position * steps_ + c / kPerStep;
        std::memcpy(weights + 4 * (step * lanes + lane) + c % kPerStep * kBytes, &weight, kBytes);
      }
    }
  }
}

void WinogradKernel::make_constants(int o, const ChannelSums& sums) {
  const int chunk = o / lanes_ / kWinogradBlocks, lanes = blocks_of(chunk) * lanes_;
  const int lane = o - chunk * kWinogradBlocks * lanes_;
  auto positions = sums.positions;
  positions[kSumPosition] = 0;
  const auto products = outputs_of(positions);
  for (int i = 0; i < 4; ++i) {
    // Modulo 2^32, as the sums that it is added to.
    const auto bias = static_cast<uint32_t>(p_.a_zero * sums.weights) << output_shift();
    const uint32_t shifted = static_cast<uint32_t>(shift_) * static_cast<uint32_t>(products[i]);
    constants_[size_t{4} * chunk * kWinogradBlocks * lanes_ + i * lanes + lane] =
        static_cast<int32_t>(bias - shifted);
  }
}

void WinogradKernel::divide_steps() {
  const auto* weights = reinterpret_cast<const int8_t*>(weights_.data());
  for (int chunk = 0; chunk < blocks(); ++chunk) {
    const int lanes = blocks_of(chunk) * lanes_;
    for (int position = 0; position < kWinogradPositions; ++position) {
      // Parts of as even sizes as may be. Sums of a step each are as well widened in registers.
      int part = steps_;
      for (int parts = 2; part > 1; ++parts) {
        if (parts_fit(target_, weights, steps_, lanes, part, 4 * ((1 << p_.a_bits) - 1))) break;
        part = std::min(part - 1, (steps_ + parts - 1) / parts);
      }
      part_steps_.push_back(part == 1 ? 0 : part);
      weights += size_t{4} * steps_ * lanes;
    }
  }
}

void WinogradKernel::prepare(const uint8_t* codes, uint8_t* row) const noexcept {
  target_.columns({codes, padded_w_, p_.ic, row_tiles_, row, part_bytes_, padded_ic_, wide_});
  if (stored_.value_factor == 0) return;
  auto* sums = reinterpret_cast<uint32_t*>(row + 4 * part_bytes_);
  for (int x = 0; x < padded_w_; ++x) sums[x] = target_.sum(codes + size_t{1} * x * p_.ic, p_.ic);
  for (int x = 0; x < p_.ow; ++x) sums[x] += sums[x + 1] + sums[x + 2];
}

WinogradKernel::Parts WinogradKernel::parts_of(int rows, uint8_t* scratch) const noexcept {
  const int tiles = (rows + 1) / 2 * row_tiles_;
  Parts parts{};
  const auto take = [&](size_t bytes) {
    uint8_t* at = scratch == nullptr ? nullptr : scratch + parts.bytes;
    parts.bytes += round_up(bytes, 64);
    return at;
  };
  parts.position_bytes = round_up(size_t{4} * steps_ * tiles + kSlack, 64);
  parts.values = take(kWinogradPositions * parts.position_bytes);
  parts.products = reinterpret_cast<int32_t*>(
      take(sizeof(int32_t) * kWinogradPositions * target_.chunk_tiles * kWinogradBlocks * lanes_));
  parts.terms = reinterpret_cast<uint32_t*>(take(sizeof(uint32_t) * rows * p_.ow));
  return parts;
}

// The row of tiles that begins at output row y needs the input rows under the windows of rows y and y + 1;
// the last one is anything where row y + 1 is not of the band.
void WinogradKernel::transform_rows(const RowBand& band, const Parts& parts) const noexcept {
  for (int y = 0; y < band.count; y += 2) {
    const uint8_t* const* rows = band.rows + 3 * y;
    const uint8_t* last = y + 1 < band.count ? rows[5] : band.padding;
    for (int part = 0; part < 4; ++part) {
      const size_t at = part * part_bytes_;
      const int tiles = tiles_of(part);
      target_.rows({{rows[0] + at, rows[1] + at, rows[2] + at, last + at},
                    size_t{1} * tiles * padded_ic_,
                    parts.values + part * parts.position_bytes + size_t{4} * steps_ * (y / 2 * tiles),
                    4 * parts.position_bytes,
                    static_cast<uint8_t>(shift_),
                    static_cast<uint8_t>(part == kSumPosition % 4 ? 0 : shift_),
                    wide_});
    }
  }
}

void WinogradKernel::pixel_terms(const RowBand& band, uint32_t* out) const noexcept {
  const uint32_t factor = static_cast<uint32_t>(stored_.value_factor) << output_shift();
  for (int y = 0; y < band.count; ++y, out += p_.ow) {
    const auto sums = [&](int ky) {
      return reinterpret_cast<const uint32_t*>(band.rows[3 * y + ky] + 4 * part_bytes_);
    };
    const uint32_t *top = sums(0), *middle = sums(1), *bottom = sums(2);
    for (int x = 0; x < p_.ow; ++x) out[x] = factor * (top[x] + middle[x] + bottom[x]);
  }
}

// The second output of a dimension alone needs the last position, so tiles that have only the first leave it
// out.
WinogradProducts::Range WinogradKernel::range_of(int position, int rows, TilePlace from,
                                                 TilePlace end) const noexcept {
  const int full_rows = position / 4 == 3 ? rows / 2 : (rows + 1) / 2, tiles = tiles_of(position % 4);
  const auto before = [&](TilePlace at) {
    return at.y < full_rows ? at.y * tiles + std::min(at.x, tiles) : full_rows * tiles;
  };
  return {before(from), before(end) - before(from)};
}

void WinogradKernel::compute_chunk(const RowBand& band, const Parts& parts, int chunk, int first_tile,
                                   int tiles) const noexcept {
  const int blocks = blocks_of(chunk), lanes = blocks * lanes_, channel = chunk * kWinogradBlocks * lanes_;
  const TilePlace from = place_of(first_tile), end = place_of(first_tile + tiles);
  WinogradProducts products{};
  products.values = parts.values;
  products.position_bytes = parts.position_bytes;
  products.weights = weights_.data() + size_t{4} * kWinogradPositions * channel * steps_;
  for (int i = 0; i < kWinogradPositions; ++i) products.range[i] = range_of(i, band.count, from, end);
  products.steps = steps_;
  products.blocks = blocks;
  products.part_steps = wide_ ? nullptr : part_steps_.data() + size_t{1} * kWinogradPositions * chunk;
  products.products = parts.products;
  target_.products(products);
  WinogradOutputs out{};
  out.products = parts.products;
  out.first = first_tile;
  out.tiles = tiles;
  out.row_tiles = row_tiles_;
  out.lanes_used = lanes;
  out.channels = std::min(lanes, p_.oc - channel);
  out.oh = band.count;
  out.ow = p_.ow;
  out.constants = constants_.data() + size_t{4} * channel;
  out.pixel_terms = stored_.value_factor != 0 ? parts.terms : nullptr;
  out.shift = output_shift();
  out.out = band.acc + channel;
  out.out_stride_elems = p_.oc;
  target_.outputs(out);
}

void WinogradKernel::compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept {
  const Parts parts = parts_of(band.count, scratch);
  const int tiles = (band.count + 1) / 2 * row_tiles_;
  transform_rows(band, parts);
  if (stored_.value_factor != 0) pixel_terms(band, parts.terms);
  const int parts_of_tiles = (tiles + target_.chunk_tiles - 1) / target_.chunk_tiles;
  for (int chunk = first; chunk < last; ++chunk) {
    for (int i = 0; i < parts_of_tiles; ++i) {
      const int from = tiles * i / parts_of_tiles, end = tiles * (i + 1) / parts_of_tiles;
      compute_chunk(band, parts, chunk, from, end - from);
    }
  }
}

template <Isa kIsa>
std::string refuses(const ConvProblem& p, Isa) {
  const program::Window& w = p.window;
  if (w.kernel_h != 3 || w.kernel_w != 3 || w.stride_h != 1 || w.stride_w != 1 || w.dilation_h != 1 ||
      w.dilation_w != 1 || p.groups != 1)
    return "Winograd's F(2x2, 3x3) computes 3x3 windows of stride and dilation 1 in one group";
  const WinogradTarget target = winograd_target(kIsa);
  if (target.lanes == 0)
    return fmt::format("this CPU or build lacks the Winograd code for {}", to_string(kIsa));
  if (is_wide(target, p) && !target.wide) return "its transformed weights or codes do not fit bytes";
  const int max_weight = std::max(
      {choose_stored(p).largest(p.w_bits), std::abs(p.grid.at(0)), std::abs(p.grid.at((1 << p.w_bits) - 1))});
  if (int64_t{p.reduction()} * max_weight * ((1 << p.a_bits) - 1) >= int64_t{1} << 29)
    return "its sums could reach 2^29, four times which is beyond 32 bits";
  return {};
}

template <Isa kIsa>
KernelEntry entry(const char* name) {
  return {name, Family::kInt8, kIsa, refuses<kIsa>,
          [](const ConvProblem& problem, std::span<const uint8_t> codes, Isa) -> std::unique_ptr<ConvKernel> {
            return make_row_conv(problem,
                                 std::make_unique<WinogradKernel>(problem, codes, winograd_target(kIsa)));
          }};
}

}  // namespace

std::vector<KernelEntry> winograd_entries() {
  return {entry<Isa::kVnni>("conv_u8s8_winograd__vnni"), entry<Isa::kAvx512>("conv_u8s8_winograd__avx512"),
          entry<Isa::kAvx2>("conv_u8s8_winograd__avx2")};
}

}  // namespace bitstrata::kernels
