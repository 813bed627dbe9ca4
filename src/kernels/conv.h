#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/isa.h"
#include "program/program.h"

/// Integer convolution kernels of all families behind one interface. A fully connected layer is a 1x1
/// convolution on a 1x1 image.
namespace bitstrata::kernels {

enum class Family { kReference, kBitplane, kLookup, kInt8, kDirect };

/// "reference", "bitplane", "lookup", "int8", "direct" (depthwise only).
const char* to_string(Family family) noexcept;

/// What one quantized layer computes per image, everything but the weights' values.
/// Input codes: [ih, iw, ic] (channels last) in [0, 2^a_bits). Accumulators: [oh, ow, oc].
struct ConvProblem {
  int ic = 1, ih = 1, iw = 1;
  int oc = 1, oh = 1, ow = 1;
  int groups = 1;
  program::Window window;
  int w_bits = 8;
  quant::IntegerGrid grid;
  int a_bits = 8;
  int a_zero = 0;       ///< zero point, in [-(2^a_bits - 1), 0]
  int max_batch = 1;    ///< batch that kernels prepare for; other sizes run too, image by image
  int max_threads = 0;  ///< run() never uses more threads; 0: OpenMP's maximum when the kernel is made

  int reduction() const noexcept { return ic / groups * window.kernel_h * window.kernel_w; }
};

/// Everything that no kernel can compute is refused here: sizes below 1, groups that do not divide the
/// channels, an output size that does not follow from the window, bits outside 1..8, a zero point or grid out
/// of range (kInvalidArgument), more than 2^31 elements of the padded input or the output, accumulators that
/// could reach 2^31 (kUnsupported). select_conv and explain_conv call it.
void validate(const ConvProblem& problem);

/// Takes finished accumulators while they are in the first caches.
struct PixelSink {
  const void* self;
  /// Pixels [first, first + count) of image `image`, acc: [count, oc], valid during the call only. Called
  /// from several threads at once, `thread` in [0, threads) telling them apart.
  void (*take)(const void* self, int image, int64_t first, int count, const int32_t* acc,
               int thread) noexcept;
};

/// The usual end of a layer: y = float32(acc) * mul[o]; y = y + add[o]; the code min(max(rint(y * inverse),
/// 0), max_code), every step rounded to float32. mul, add: [oc], finite.
struct Requantization {
  std::span<const float> mul, add;
  float inverse = 1;
  int max_code = 255;
};

/// One layer made ready for one kernel: owns the weights in the kernel's own layout. Immutable after
/// construction, so any number of threads may call run() at once with their own buffers.
class ConvKernel {
 public:
  virtual ~ConvKernel() = default;
  /// Scratch that run() needs for a batch of n images, in bytes; the caller provides it 64-byte aligned.
  virtual size_t scratch_bytes(int n) const noexcept = 0;
  /// acc[b][y][x][o] = sum over the window of grid.at(u) * (v + a_zero), exact; see docs/arithmetic.md.
  /// src: [n, ih, iw, ic] codes, acc: [n, oh, ow, oc], both dense and 64-byte aligned. Runs on up to
  /// `threads` OpenMP threads.
  virtual void run(const uint8_t* src, int n, int32_t* acc, void* scratch, int threads) const noexcept = 0;
  /// True when stream() is there.
  virtual bool streams() const noexcept { return false; }
  /// As run(), but hands every output pixel to `sink` once instead of storing it. Only when streams().
  virtual void stream(const uint8_t*, int, const PixelSink&, void*, int) const noexcept {}
  /// Makes the kernel write codes itself, where it can do so exactly: from then on only run_codes() may be
  /// called. False: nothing changed. Before anything runs; scratch_bytes() may change.
  virtual bool fuse(const Requantization&) { return false; }
  /// As run(), with the end given to fuse(). codes: [n, oh, ow, oc].
  virtual void run_codes(const uint8_t*, int, uint8_t* codes, void*, int) const noexcept {
    static_cast<void>(codes);
  }
  /// Bytes held for packed weights.
  virtual size_t weight_bytes() const noexcept = 0;
  /// The compiled code that run() executes, as it names itself, e.g. "highway AVX3_DL", "onednn
  /// jit:avx512_core_vnni".
  virtual std::string implementation() const = 0;
};

/// One line of the kernel table.
struct KernelEntry {
  std::string name;  ///< e.g. "conv_bitplane__avx2", "conv_u8s8_onednn__vnni"
  Family family;
  Isa isa;  ///< the instruction set it needs
  /// Empty when this kernel computes `problem` exactly under a cap of `cap`, otherwise the reason why not.
  std::string (*refuses)(const ConvProblem& problem, Isa cap);
  /// Prepares the layer. codes: [oc, ic / groups, kh, kw] row-major, one code per byte. Only after refuses()
  /// returned "".
  std::unique_ptr<ConvKernel> (*make)(const ConvProblem& problem, std::span<const uint8_t> codes, Isa cap);
};

/// All kernels compiled in; the reference comes last and refuses nothing.
const std::vector<KernelEntry>& conv_kernels();

/// Speed that the choice below expects of an entry on large layers, in 10^9 low-bit multiply-accumulates per
/// second and thread: the ceilings of the instruction sequence, divided by w_bits * a_bits for bit planes.
double expected_gmacs(const KernelEntry& entry, const ConvProblem& problem);

/// The kernel with the highest expected_gmacs among those that run on `cap` or below and accept the problem
/// (the first one in conv_kernels() when equal); `only` restricts the family. kUnsupported, with every
/// refusal, when a restriction leaves none.
const KernelEntry& select_conv(const ConvProblem& problem, Isa cap, const Family* only = nullptr);

/// Why each kernel would or would not be chosen by its estimate.
struct Verdict {
  const KernelEntry* entry;
  bool chosen;
  bool refused;        ///< it cannot run the problem under this cap
  std::string reason;  ///< empty for the chosen one
};
std::vector<Verdict> explain_conv(const ConvProblem& problem, Isa cap);

}  // namespace bitstrata::kernels
