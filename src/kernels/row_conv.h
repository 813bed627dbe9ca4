#pragma once

#include <memory>

#include "kernels/conv.h"

/// The part that kernels share which keep their own form of the input: which rows are needed when, padding,
/// threads, and handing results on. Internal to the module.
namespace bitstrata::kernels {

/// Consecutive output rows of one image, computed together so that weights are read once for all of them.
struct RowBand {
  const uint8_t* const* rows;  ///< [count][kernel_h]: the prepared input row under row ky of the window
  int count;
  int32_t* acc;            ///< [count][ow][oc]; null with codes
  uint8_t* codes;          ///< [count][ow][oc], after RowKernel::fuse(); null with acc
  const uint8_t* padding;  ///< the prepared row that `rows` has for rows of padding
};

/// One layer's arithmetic on prepared input rows. Immutable, so any number of threads may use it at once.
class RowKernel {
 public:
  virtual ~RowKernel() = default;
  /// Bytes of one prepared row. Prepared rows are 64-byte aligned and 64 more bytes behind them may be read.
  virtual size_t row_bytes() const noexcept = 0;
  /// Makes the kernel's form of one padded input row. codes: [pad_left + iw + pad_right, ic], padding filled
  /// in with the code of value 0; 64 bytes behind them may be read.
  virtual void prepare(const uint8_t* codes, uint8_t* row) const noexcept = 0;
  /// Pixels of a band: enough that reading the weights from the second-level cache costs little.
  virtual int band_pixels() const noexcept { return 48; }
  /// Bands have a multiple of this number of output rows, the last one of an image excepted.
  virtual int row_multiple() const noexcept { return 1; }
  /// True when it costs little that threads prepare the same rows to share a band's channels, so that small
  /// images need not be divided.
  virtual bool shares_channels() const noexcept { return false; }
  /// Blocks of output channels, in rising order, that compute() can be split into.
  virtual int blocks() const noexcept = 0;
  /// Accumulators, or codes, of the channels of blocks [first, last) in all pixels of the band, nothing else.
  /// scratch: scratch_bytes(), 64-byte aligned.
  virtual void compute(const RowBand& band, int first, int last, uint8_t* scratch) const noexcept = 0;
  /// As ConvKernel::fuse(): from then on, compute() writes codes.
  virtual bool fuse(const Requantization&) { return false; }
  /// Scratch of compute() for bands of up to `rows` output rows.
  virtual size_t scratch_bytes(int rows) const noexcept = 0;
  virtual size_t weight_bytes() const noexcept = 0;
  virtual std::string implementation() const = 0;
};

/// A convolution that runs on `kernel`: every thread takes bands of output rows and keeps the prepared input
/// rows under them in a ring, so that each is prepared once per thread and stays in its caches.
std::unique_ptr<ConvKernel> make_row_conv(const ConvProblem& problem, std::unique_ptr<RowKernel> kernel);

}  // namespace bitstrata::kernels
