#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"

/// What the Winograd convolution (winograd.cpp) needs from an instruction set. Internal to the module.
namespace bitstrata::kernels {

/// Positions of a transformed 4x4 tile, row by row.
inline constexpr int kWinogradPositions = 16;
/// Products are made and used up by so many blocks of channels at most.
inline constexpr int kWinogradBlocks = 2;

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

/// One part of four transformed rows to be transformed along the rows.
struct WinogradRows {
  const uint8_t* rows[4];  ///< a part of WinogradColumns::out each
  size_t elements;         ///< 64 bytes behind them may be read
  /// [4][elements] of the same kind, one row of them every out_stride_bytes: values plus `shift`, those of
  /// the second row plus `sum_shift`. 64 bytes behind them are written.
  uint8_t* out;
  size_t out_stride_bytes;
  uint8_t shift, sum_shift;
  bool wide;
};

/// Values times weights, position by position.
struct WinogradProducts {
  const uint8_t* values;  ///< [16][position_bytes], of each position [tiles][4 * steps] bytes
  size_t position_bytes;
  const uint8_t* weights;  ///< [16][steps][blocks][lanes][4], signed bytes, or [..][2] int16_t
  struct Range {
    int first, tiles;  ///< tiles may be 0
  } range[kWinogradPositions];
  int steps;
  int blocks;  ///< of `lanes` channels
  /// [16]: the most steps in one 16-bit sum, or 0: sums of 32 bits. Null: operands of 16 bits.
  const int* part_steps;
  /// [16][WinogradTarget::chunk_tiles * kWinogradBlocks * lanes], of each position [tiles][blocks][lanes],
  /// modulo 2^32
  int32_t* products;
};

/// Products of all positions to be transformed back to 2x2 outputs a tile.
struct WinogradOutputs {
  /// As WinogradProducts::products; in the last column of positions without the tiles at the right edge when
  /// `ow` is odd, in the last row anything in those at the lower edge when `oh` is odd.
  const int32_t* products;
  int first, tiles;  ///< tile `first` of the band is the first one here
  int row_tiles;     ///< of one row of tiles
  int lanes_used;    ///< channels rounded up to whole vectors
  int channels;
  int oh, ow;                   ///< of the band; the last row or column of tiles may reach over them
  const int32_t* constants;     ///< [4][lanes_used]: of each of the 2x2 outputs
  const uint32_t* pixel_terms;  ///< [oh][ow], or null
  int shift;
  /// [oh][ow][out_stride_elems]: (four times the sum + constant + pixel term) >> shift, modulo 2^32 and
  /// signed
  int32_t* out;
  size_t out_stride_elems;
};

/// The code of one instruction set.
struct WinogradTarget {
  int lanes = 0;  ///< 0: not compiled in, or this CPU cannot run it
  const char* name = "";
  int chunk_tiles = 0;        ///< products are made and used up by so many tiles at most
  int band_tiles = 0;         ///< that share the reading of the weights
  int products_per_step = 0;  ///< products that a step adds to one 16-bit sum; 0: sums have 32 bits
  int max_sum = 0;            ///< largest absolute value of a 16-bit sum
  bool wide = false;          ///< takes operands of 16 bits
  /// As NarrowTarget::sum.
  uint32_t (*sum)(const uint8_t* codes, size_t count) = nullptr;
  void (*columns)(const WinogradColumns& work) = nullptr;
  void (*rows)(const WinogradRows& work) = nullptr;
  void (*products)(const WinogradProducts& work) = nullptr;
  void (*outputs)(const WinogradOutputs& work) = nullptr;
};

/// For kAvx2, kAvx512 and kVnni; others have none.
WinogradTarget winograd_target(Isa isa);

}  // namespace bitstrata::kernels
