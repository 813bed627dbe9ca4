#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"
#include "kernels/code_end.h"

/// What the lookup convolution (lookup.cpp) needs from an instruction set. Internal to the module.
///
/// Four codes of one pixel, consecutive in its channels, make a table of 16 bytes: entry i is the sum of the
/// codes whose bit is set in i. Four bits of one weight plane are an index into it. Tables of consecutive
/// output pixels are next to each other, so that a vector takes either one table for all its lanes, or
/// another pixel's table for every 16 lanes.
///
/// Sums of four codes of 1 or 2 bits fit four bits, so that one table serves two pixels: entries hold the
/// first one's sum in their low half and the second one's in their high half, and one shuffle looks up both.
namespace bitstrata::kernels {

inline constexpr int kTableCodes = 4;
inline constexpr int kTableBytes = 16;
/// Steps are padded with indices of 0, whose entry is 0, to a multiple of this.
inline constexpr int kStepsAtOnce = 4;
inline constexpr int kPairSteps = 3;  ///< the same where a table serves two pixels
/// Largest sum of half an entry.
inline constexpr int kHalfEntry = 15;

/// A step is one table of every pixel; consecutive output pixels of one row against up to 8 vectors of
/// indices.
struct LookupTile {
  const uint8_t* const* tables;  ///< [steps]: that of the first pixel; the other pixels' follow. `lanes`
                                 ///< bytes from any pixel's table may be read.
  size_t first_bytes;            ///< to be added to all `tables`
  int half_steps;  ///< 0, or so many entries can be added before half of one overflows, 1 or kPairSteps.
                   ///< Tables then are of pixels p and p + second, `steps` and `flush_steps` multiples of
                   ///< kPairSteps.
  int second;
  const uint8_t* indices;  ///< [steps][vectors][lanes, or 16 when across pixels]
  int steps, vectors, pixels;
  int flush_steps;  ///< so many table entries fit a byte when added
  int widen_steps;  ///< so many fit 16 bits, plane weights included; a multiple of flush_steps, or at least
                    ///< `steps`, as it is with half_steps or `sums`
  bool across_pixels;   ///< every 16 lanes are another pixel
  bool two_planes;      ///< lanes 2i and 2i + 1 are planes of weight 1 and 2 of channel i; otherwise they are
                        ///< the channels i and i + half, `half` being half of a pixel's lanes
  bool add;             ///< to `out`, instead of setting it to sum + bias + base
  int shift;            ///< sums are multiplied by 2^shift
  const int32_t* base;  ///< [pixels]
  const int32_t* bias;  ///< [channels of all vectors]
  int32_t* out;         ///< [second + pixels][channels], modulo 2^32; null with `sums`
  uint16_t* sums;       ///< [second + pixels][channels of all vectors], neither added to nor shifted; at most
                        ///< widen_steps
  size_t out_stride_elems;  ///< of out, or sums
  int channels;             ///< to write per pixel
};

/// The end of pixels whose sums are complete: sums * 2^shift + bias + base, or their codes.
struct LookupEnd {
  const uint16_t* sums;  ///< [pixels][sums_stride_elems]; 32 behind the last channel may be read
  size_t sums_stride_elems;
  int pixels, channels;
  int shift;
  const int32_t* base;  ///< [pixels]
  const int32_t* bias;  ///< [channels], as are end.mul and end.add; 64 more of each may be read
  CodeEnd end;          ///< with codes
  int32_t* out;         ///< [pixels][channels], modulo 2^32; or null
  uint8_t* codes;       ///< [pixels][channels]; or null
  size_t out_stride_elems;
};

/// Tables of one row of pixels, and the sums of each.
struct LookupRow {
  const uint8_t* codes;  ///< of the first pixel; 16 bytes behind any code may be read
  size_t pixel_stride_bytes;
  int pixels;  ///< or pairs of pixels
  int second;  ///< 0, or tables are of pixels p and p + second
  int channels;
  uint8_t* tables;  ///< [(channels + 3) / 4] rows of `pixels` tables. What a table holds in entries that take
                    ///< codes behind the last channel is unspecified.
  size_t row_stride_bytes;
  int32_t* sums;  ///< [second + pixels]: of the codes, modulo 2^32; each at least once
};

/// The lookup code of one instruction set.
struct LookupTarget {
  int lanes = 0;         ///< bytes of a vector; 0: not compiled in, or this CPU cannot run it
  int tile_vectors = 0;  ///< of pixels times those of indices; powers of two, as is every LookupTile::vectors
  int index_vectors = 0;  ///< best number of vectors of indices where there are pixels enough
  const char* name = "";
  void (*tile)(const LookupTile& tile) = nullptr;
  void (*finish)(const LookupEnd& end) = nullptr;
  void (*make_tables)(const LookupRow& row) = nullptr;
};

/// The target for exactly this instruction set.
LookupTarget lookup_target(Isa isa);

/// Plain C++, 16 lanes.
LookupTarget lookup_scalar_target();

/// make_tables in plain C++.
void make_tables_scalar(const LookupRow& row);

}  // namespace bitstrata::kernels
