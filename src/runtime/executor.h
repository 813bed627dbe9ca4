#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "program/program.h"
#include "runtime/planner.h"
#include "runtime/row_ops.h"
#include "runtime/session.h"

/// The prepared form of one op. Internal to the runtime.
namespace bitstrata::runtime {

using program::Dims;
using program::TensorId;

/// Where the images of a tensor lie: in the arena or among the constants.
struct Location {
  bool constant = false;
  size_t offset_bytes = 0;
};

/// Everything one op needs while it runs.
struct Context {
  std::byte* arena = nullptr;
  std::byte* constants = nullptr;
  std::span<const Location> locations;
  std::byte* scratch = nullptr;  ///< of this op, 64-byte aligned
  int n = 0;                     ///< images

  /// First element of image 0 of a tensor.
  template <typename T>
  T* data(TensorId id) const noexcept {
    const Location& location = locations[static_cast<size_t>(id)];
    return reinterpret_cast<T*>((location.constant ? constants : arena) + location.offset_bytes);
  }
};

/// Sub-allocates the scratch of one op while it is prepared.
class ScratchLayout {
 public:
  /// Offset of `bytes` 64-byte aligned bytes.
  size_t reserve(size_t bytes) noexcept {
    const size_t offset = total_bytes_;
    total_bytes_ += aligned(bytes);
    return offset;
  }
  size_t total_bytes() const noexcept { return total_bytes_; }

 private:
  size_t total_bytes_ = 0;
};

/// What executors are prepared from. Only `program` and `options` outlive the preparation.
struct Preparation {
  const program::Program& program;
  const Options& options;
  const RowOps& ops;
  KernelTimes* times;    ///< null: kernels are chosen by estimate
  int64_t weight_bytes;  ///< packed weights of all quantized layers

  const program::Tensor& tensor(TensorId id) const { return program.tensors[static_cast<size_t>(id)]; }
  /// By tensor: the values of a constant in logical order, or null.
  std::vector<const std::vector<float>*> constants;
};

/// Runs one op on n images. Immutable; run() allocates nothing.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void run(const Context& context) const noexcept = 0;
  size_t scratch_bytes() const noexcept { return scratch_.total_bytes(); }
  /// Name of the chosen kernel; "-" without a choice.
  virtual std::string kernel_name() const { return "-"; }
  /// What it was chosen from, when measured.
  virtual std::vector<KernelTime> kernel_times() const { return {}; }

 protected:
  ScratchLayout scratch_;
};

/// One maker per group of kinds; each takes ops of its kinds only.
std::unique_ptr<Executor> make_layer(const Preparation& preparation,
                                     const program::Op& op);  ///< conv, linear
std::unique_ptr<Executor> make_pool(const Preparation& preparation,
                                    const program::Op& op);  ///< average, mean, max
std::unique_ptr<Executor> make_elementwise(const Preparation& preparation,
                                           const program::Op& op);  ///< elementwise, lookup
std::unique_ptr<Executor> make_float_op(const Preparation& preparation,
                                        const program::Op& op);  ///< softmax, matmul
std::unique_ptr<Executor> make_movement(const Preparation& preparation,
                                        const program::Op& op);  ///< the other data movement

/// True when the output of a Reshape lies like its input, so that both can share memory.
bool is_alias(const program::Program& program, const program::Op& op);

}  // namespace bitstrata::runtime
