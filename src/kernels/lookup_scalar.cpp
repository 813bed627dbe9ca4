#include "kernels/lookup.h"

namespace bitstrata::kernels {
namespace {

constexpr int kLanes = 16;

uint32_t sum_of_lane(const LookupTile& a, int pixel, int vector, int lane) {
  uint32_t sum = 0;
  const uint8_t* index = a.indices + vector * kLanes + lane;
  for (int s = 0; s < a.steps; ++s, index += a.vectors * kLanes) {
    sum += a.tables[s][a.first_bytes + static_cast<size_t>(pixel * kTableBytes + *index)];
  }
  return sum;
}

void tile(const LookupTile& a) {
  const int per_vector = a.two_planes ? kLanes / 2 : kLanes;
  for (int p = 0; p < a.pixels; ++p) {
    int32_t* out = a.out + p * a.out_stride_elems;
    for (int o = 0; o < a.channels; ++o) {
      const int vector = o / per_vector, in_vector = o % per_vector;
      uint32_t sum = 0;
      if (a.two_planes) {
        sum = sum_of_lane(a, p, vector, 2 * in_vector) + 2 * sum_of_lane(a, p, vector, 2 * in_vector + 1);
      } else {
        const int half = kLanes / 2;
        sum = sum_of_lane(a, p, vector, in_vector % half * 2 + in_vector / half);
      }
      sum <<= a.shift;
      sum += a.add ? static_cast<uint32_t>(out[o])
                   : static_cast<uint32_t>(a.bias[o]) + static_cast<uint32_t>(a.base[p]);
      out[o] = static_cast<int32_t>(sum);
    }
  }
}

}  // namespace

void make_tables_scalar(const LookupRow& row) {
  for (int x = 0; x < row.pixels; ++x) {
    const uint8_t* codes = row.codes + x * row.pixel_stride_bytes;
    uint32_t sum = 0;
    for (int c = 0; c < row.channels; ++c) sum += codes[c];
    row.sums[x] = static_cast<int32_t>(sum);
    for (int q = 0; q * kTableCodes < row.channels; ++q, codes += kTableCodes) {
      uint8_t* table = row.tables + q * row.row_stride_bytes + static_cast<size_t>(x * kTableBytes);
      for (int i = 0; i < kTableBytes; ++i) {
        int entry = 0;
        for (int j = 0; j < kTableCodes; ++j) entry += (i >> j & 1) * codes[j];
        table[i] = static_cast<uint8_t>(entry);
      }
    }
  }
}

LookupTarget lookup_scalar_target() {
  return {kLanes, 8, 1, "scalar", tile, make_tables_scalar};
}

}  // namespace bitstrata::kernels
