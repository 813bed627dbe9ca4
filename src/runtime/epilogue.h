#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "runtime/executor.h"
#include "runtime/layout.h"
#include "runtime/parallel.h"

namespace bitstrata::runtime {

/// Elements of one image that are processed together: whole rows of the innermost axis, or a part of one row
/// when it is long.
class Tiling {
 public:
  explicit Tiling(const Dims& dims);
  struct Tile {
    int64_t begin, count;  ///< physical elements
  };
  int64_t tiles() const noexcept { return tiles_; }
  Tile tile(int64_t index) const noexcept;
  int64_t inner() const noexcept { return inner_; }
  /// The longest tile at `begin` inside [begin, end), where `end` ends a row.
  Tile within(int64_t begin, int64_t end) const noexcept;
  int64_t max_tile_elems() const noexcept { return tile_elems_; }

 private:
  static constexpr int64_t kTargetElems = 1024;
  int64_t inner_, rows_, tile_elems_, tiles_, tiles_per_row_ = 0;
};

/// The values that a tensor or a parameter, broadcast to some dims, has at the elements of a tile.
class Source {
 public:
  /// A tensor broadcast from the right to `dims`.
  Source(const Preparation& preparation, TensorId id, const Dims& dims, const Tiling& tiling);
  /// One value, or one per index of the logical axis `axis` of `dims`.
  Source(const Preparation& preparation, const std::vector<float>& values, size_t axis, const Dims& dims,
         const Tiling& tiling);

  bool is_scalar() const noexcept { return mode_ == Mode::kScalar; }
  float scalar() const noexcept { return scalar_; }
  bool is_periodic() const noexcept { return mode_ == Mode::kPeriodic; }
  /// Codes of a tensor that lies as the tile does, or null.
  const uint8_t* dense_codes(const Context& context, int64_t image, Tiling::Tile tile) const noexcept;
  const std::optional<quant::CodeType>& code() const noexcept { return code_; }
  /// The float values of the tile; `buffer` holds them when they do not lie ready in memory.
  const float* values(const Context& context, int64_t image, Tiling::Tile tile, float* buffer) const noexcept;
  /// As values(), always written to `target`.
  void fill(const Context& context, int64_t image, Tiling::Tile tile, float* target) const noexcept;

 private:
  enum class Mode { kScalar, kPeriodic, kDense, kGather };

  void set_constant(const std::vector<float>& values, const std::vector<int64_t>& strides, const Dims& dims,
                    const Tiling& tiling);
  void set_axes(const std::vector<int64_t>& strides, const Dims& dims);
  void gather(const Context& context, int64_t image, Tiling::Tile tile, float* target) const noexcept;
  void gather_row(const void* base, int64_t first, int64_t count, float* target) const noexcept;

  const RowOps* ops_;
  Mode mode_ = Mode::kGather;
  float scalar_ = 0;
  std::vector<float> own_;  ///< periodic tile, or constant to gather from
  TensorId tensor_ = -1;    ///< otherwise
  std::optional<quant::CodeType> code_;
  int64_t image_elems_ = 0;
  int64_t inner_ = 1, inner_stride_ = 0;
  int outer_axes_ = 0;
  std::array<int64_t, 4> outer_sizes_{}, outer_strides_{};  ///< outermost first
};

/// The end of every arithmetic op: steps on the running value, then the stores, tile by tile.
class Epilogue {
 public:
  /// Reserves its buffers in `scratch`.
  Epilogue(const Preparation& preparation, const program::Op& op, ScratchLayout& scratch);

  /// The one output, when it is codes and no steps come before it.
  const quant::CodeType* plain_code() const noexcept {
    return steps_.empty() && stores_.size() == 1 && stores_[0].code ? &*stores_[0].code : nullptr;
  }

  /// Parameters that come before the op's own steps.
  void prepend(program::StepKind kind, Source source);

  const Tiling& tiling() const noexcept { return tiling_; }

  /// For images first..first + count - 1: fill(image, tile, y, sums) writes the running value of a tile to y,
  /// then come steps and stores. `sums` is working memory of 8 bytes per element of the tile. The source of
  /// fill() for image i is its own affair.
  template <typename Fill>
  void run(const Context& context, int64_t first, int64_t count, const Fill& fill) const noexcept {
    for_each_tile(count, [&](int64_t i, Tiling::Tile tile, int thread) {
      std::byte* own = context.scratch + scratch_offset_ + static_cast<size_t>(thread) * thread_bytes_;
      auto* y = reinterpret_cast<float*>(own);
      auto* t = reinterpret_cast<float*>(own + buffer_bytes_);
      fill(first + i, tile, y, own + 2 * buffer_bytes_);
      finish(context, first + i, tile, y, t);
    });
  }

  /// body(image, tile, thread) for all tiles of `count` images, thread in [0, threads of the model).
  template <typename Body>
  void for_each_tile(int64_t count, const Body& body) const noexcept {
    const int64_t tiles = tiling_.tiles();
    const int threads = count * elems_ < kSerialElems ? 1 : threads_;
    parallel_for(threads, count * tiles,
                 [&](int64_t i, int thread) { body(i / tiles, tiling_.tile(i % tiles), thread); });
  }

  /// The values y = float32(acc) * scale + shift, then steps and stores, for `count` elements of one image
  /// from `begin` on, whole rows of the innermost axis. acc: [count]. scale and shift: periodic. thread:
  /// below the number of threads, to tell concurrent callers apart.
  void run_scaled(const Context& context, int64_t image, int64_t begin, int64_t count, const int32_t* acc,
                  const Source& scale, const Source& shift, int thread) const noexcept;

 private:
  struct PreparedStep {
    program::StepKind kind;
    std::optional<Source> source;
    float a = 0, b = 0;
    program::Function function = program::Function::kNone;
  };
  struct Store {
    TensorId tensor;
    std::optional<quant::CodeType> code;
  };
  static constexpr int64_t kSerialElems = 8192;

  /// When there are one or two stores, of codes, and no steps but perhaps one addition of a tensor's codes:
  /// one pass over acc. False: nothing was done.
  bool requantize(const Context& context, int64_t image, Tiling::Tile tile, const int32_t* acc,
                  const float* scale, const float* shift) const noexcept;
  void finish(const Context& context, int64_t image, Tiling::Tile tile, float* y, float* t) const noexcept;
  void apply(const PreparedStep& step, const Context& context, int64_t image, Tiling::Tile tile, float* y,
             float* t) const noexcept;

  const RowOps* ops_;
  int threads_;
  int64_t elems_;
  Tiling tiling_;
  std::vector<PreparedStep> steps_;
  std::vector<Store> stores_;
  size_t buffer_bytes_, thread_bytes_, scratch_offset_;
};

}  // namespace bitstrata::runtime
