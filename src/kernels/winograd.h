#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"
#include "kernels/narrow.h"

/// What the Winograd convolution (winograd.cpp) needs from an instruction set. Internal to the module.
namespace bitstrata::kernels {

/// Positions of a transformed 4x4 tile, row by row.
inline constexpr int kWinogradPositions = 16;

/// One input row to be transformed along its columns, tile by tile.
struct WinogradColumns {
  const uint8_t* codes;  ///< [pixels, channels]; 64 bytes behind them may be read
  int pixels;            ///< at least 2 * tiles + 1; the pixel behind the last one counts as equal to it
  int channels;
  int tiles;
  /// [4][tiles][padded_channels] bytes, or uint16_t: d0 - d2, d1 + d2, d2 - d1, d1 - d3 modulo 2^8 or 2^16 of
  /// the pixels 2 t to 2 t + 3. What lies behind `channels` is anything. 64 bytes behind each part are
  /// written.
  uint8_t* out;
  size_t part_bytes;  ///< from one of the four parts to the next
  int padded_channels;
  bool wide;  ///< uint16_t
};

/// Four transformed rows to be transformed along the rows: one row of tiles.
struct WinogradRows {
  const uint8_t* rows[4];  ///< as WinogradColumns::out
  size_t part_bytes;
  size_t elements;  ///< of one part; 64 bytes behind them may be read
  /// [16][position_bytes]: of each position `elements` of the same kind, plus `shift` everywhere but in
  /// position 5, whose values are never negative. 64 bytes behind them are written.
  uint8_t* out;
  size_t position_bytes;
  uint8_t shift;
  bool wide;
};

/// Products of all positions to be transformed back to 2x2 outputs a tile.
struct WinogradOutputs {
  const int32_t* products;  ///< [16][tiles][lanes_used]: four times what the theory has, modulo 2^32
  int first, tiles;         ///< tile `first` of the band is the first one here
  int row_tiles;            ///< of one row of tiles
  int lanes_used;           ///< channels rounded up to whole vectors
  int channels;
  int oh, ow;  ///< of the band; the last row or column of tiles may reach over them
  int mul_shift;
  uint32_t value_factor;
  const uint32_t* pixel_sums;  ///< [oh][ow]; may be null with value_factor 0
  const int32_t* bias;         ///< [lanes_used]
  /// [oh][ow][out_stride_elems]: (sum / 4 << mul_shift) + value_factor * pixel sum + bias, modulo 2^32
  int32_t* out;
  size_t out_stride_elems;
};

/// The code of one instruction set.
struct WinogradTarget {
  NarrowTarget products;  ///< lanes 0: not compiled in, or this CPU cannot run it
  void (*columns)(const WinogradColumns& work) = nullptr;
  void (*rows)(const WinogradRows& work) = nullptr;
  void (*outputs)(const WinogradOutputs& work) = nullptr;
};

/// For kAvx2, kAvx512 and kVnni; others have none.
WinogradTarget winograd_target(Isa isa);

}  // namespace bitstrata::kernels
