#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "kernels/conv.h"

namespace bitstrata::kernels::test {

/// Memory whose last byte is the last of its page, the next page being inaccessible, so that any access
/// behind it stops the program (address sanitizer knows nothing of mapped memory, and JIT code is not
/// instrumented). Aligned to the element type only.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes) : bytes_(bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (bytes + page - 1) / page * page + 2 * page;
    base_ = static_cast<uint8_t*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    mprotect(base_, page, PROT_NONE);
    mprotect(base_ + mapped_ - page, page, PROT_NONE);
    data_ = base_ + mapped_ - page - bytes;
    std::memset(data_, 0xA5, bytes);
  }
  ~GuardedBuffer() { munmap(base_, mapped_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_, mapped_;
  uint8_t *base_, *data_;
};

enum class Grid { kOdd, kTwosComplement, kSymmetric };
inline constexpr Grid kAllGrids[] = {Grid::kOdd, Grid::kTwosComplement, Grid::kSymmetric};

inline quant::IntegerGrid grid_of(Grid grid, int bits) {
  switch (grid) {
    case Grid::kOdd:
      return {2, -((1 << bits) - 1)};
    case Grid::kTwosComplement:
      return {1, -(1 << (bits - 1))};
    case Grid::kSymmetric:
      return {1, -((1 << (bits - 1)) - 1)};
  }
  return {};
}

/// True for kernels that do fully connected layers only.
inline bool is_linear(const KernelEntry& entry) {
  return entry.name.starts_with("linear_");
}

inline program::Window square(int kernel, int stride, int pad, int dilation = 1) {
  return {kernel, kernel, stride, stride, dilation, dilation, pad, pad, pad, pad};
}

/// A problem with its output size filled in.
inline ConvProblem make_problem(int ic, int ih, int iw, int oc, const program::Window& window, int groups,
                                int w_bits, int a_bits, Grid grid = Grid::kOdd, int a_zero = 0) {
  ConvProblem p;
  p.ic = ic;
  p.ih = ih;
  p.iw = iw;
  p.oc = oc;
  p.groups = groups;
  p.window = window;
  p.oh = (ih + window.pad_top + window.pad_bottom - window.dilation_h * (window.kernel_h - 1) - 1) /
             window.stride_h +
         1;
  p.ow = (iw + window.pad_left + window.pad_right - window.dilation_w * (window.kernel_w - 1) - 1) /
             window.stride_w +
         1;
  p.w_bits = w_bits;
  p.a_bits = a_bits;
  p.grid = grid_of(grid, w_bits);
  p.a_zero = a_zero;
  return p;
}

inline std::string describe(const ConvProblem& p) {
  const auto& w = p.window;
  std::string text;
  for (int v :
       {p.ic,        p.ih,       p.iw,       p.oc,          p.oh,         p.ow,      p.groups,   w.kernel_h,
        w.kernel_w,  w.stride_h, w.stride_w, w.dilation_h,  w.dilation_w, w.pad_top, w.pad_left, w.pad_bottom,
        w.pad_right, p.w_bits,   p.grid.mul, p.grid.offset, p.a_bits,     p.a_zero}) {
    text += std::to_string(v) + " ";
  }
  return "ic ih iw oc oh ow groups kh kw sh sw dh dw pads wbits mul offset abits zero: " + text;
}

inline std::vector<uint8_t> random_codes(size_t count, int bits, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> codes(count);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random() & ((1u << bits) - 1));
  return codes;
}

inline size_t weight_count(const ConvProblem& p) {
  return size_t{1} * p.oc * p.reduction();
}
inline size_t src_count(const ConvProblem& p, int n) {
  return size_t{1} * n * p.ih * p.iw * p.ic;
}
inline size_t acc_count(const ConvProblem& p, int n) {
  return size_t{1} * n * p.oh * p.ow * p.oc;
}

/// Runs a kernel in guarded memory.
inline std::vector<int32_t> run_guarded(const ConvKernel& kernel, const ConvProblem& p,
                                        const std::vector<uint8_t>& src, int n, int threads) {
  GuardedBuffer in(src.size()), out(acc_count(p, n) * sizeof(int32_t)),
      scratch((kernel.scratch_bytes(n) + 63) / 64 * 64);
  std::memcpy(in.as<uint8_t>(), src.data(), src.size());
  kernel.run(in.as<uint8_t>(), n, out.as<int32_t>(), scratch.as<void>(), threads);
  return {out.as<int32_t>(), out.as<int32_t>() + acc_count(p, n)};
}

}  // namespace bitstrata::kernels::test
