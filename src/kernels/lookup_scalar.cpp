#include "kernels/lookup.h"

namespace bitstrata::kernels {
namespace {

constexpr int kLanes = 16;

// Entries are (entry >> from) & mask.
struct Part {
  int from, mask;
};

uint32_t sum_of_lane(const LookupTile& a, Part part, int pixel, int vector, int lane) {
  uint32_t sum = 0;
  const uint8_t* index = a.indices + vector * kLanes + lane;
  for (int s = 0; s < a.steps; ++s, index += a.vectors * kLanes) {
    const int entry = a.tables[s][a.first_bytes + static_cast<size_t>(pixel * kTableBytes + *index)];
    sum += static_cast<uint32_t>(entry >> part.from & part.mask);
  }
  return sum;
}

void pixels(const LookupTile& a, Part part, int first) {
  const int per_vector = a.two_planes ? kLanes / 2 : kLanes;
  for (int p = 0; p < a.pixels; ++p) {
    const size_t at = (first + p) * a.out_stride_elems;
    for (int o = 0; o < a.channels; ++o) {
      const int vector = o / per_vector, in_vector = o % per_vector;
      uint32_t sum = 0;
      if (a.two_planes) {
        sum = sum_of_lane(a, part, p, vector, 2 * in_vector) +
              2 * sum_of_lane(a, part, p, vector, 2 * in_vector + 1);
      } else {
        const int half = kLanes / 2;
        sum = sum_of_lane(a, part, p, vector, in_vector % half * 2 + in_vector / half);
      }
      if (a.sums != nullptr) {
        a.sums[at + o] = static_cast<uint16_t>(sum);
        continue;
      }
      sum <<= a.shift;
      sum += a.add ? static_cast<uint32_t>(a.out[at + o])
                   : static_cast<uint32_t>(a.bias[o]) + static_cast<uint32_t>(a.base[first + p]);
      a.out[at + o] = static_cast<int32_t>(sum);
    }
  }
}

void tile(const LookupTile& a) {
  if (a.half_steps == 0) return pixels(a, {0, 255}, 0);
  pixels(a, {0, kHalfEntry}, 0);
  pixels(a, {4, kHalfEntry}, a.second);
}

void finish(const LookupEnd& a) {
  for (int p = 0; p < a.pixels; ++p) {
    for (int o = 0; o < a.channels; ++o) {
      const uint32_t sum = uint32_t{a.sums[p * a.sums_stride_elems + o]} << a.shift;
      const auto acc =
          static_cast<int32_t>(sum + static_cast<uint32_t>(a.bias[o]) + static_cast<uint32_t>(a.base[p]));
      if (a.codes != nullptr) {
        a.codes[p * a.out_stride_elems + o] = a.end.code(acc, o);
      } else {
        a.out[p * a.out_stride_elems + o] = acc;
      }
    }
  }
}

}  // namespace

void make_tables_scalar(const LookupRow& row) {
  for (int x = 0; x < row.second + row.pixels; ++x) {
    const uint8_t* codes = row.codes + x * row.pixel_stride_bytes;
    uint32_t sum = 0;
    for (int c = 0; c < row.channels; ++c) sum += codes[c];
    row.sums[x] = static_cast<int32_t>(sum);
  }
  const size_t second = row.second * row.pixel_stride_bytes;
  for (int x = 0; x < row.pixels; ++x) {
    const uint8_t* codes = row.codes + x * row.pixel_stride_bytes;
    for (int q = 0; q * kTableCodes < row.channels; ++q, codes += kTableCodes) {
      uint8_t* table = row.tables + q * row.row_stride_bytes + static_cast<size_t>(x * kTableBytes);
      for (int i = 0; i < kTableBytes; ++i) {
        int entry = 0;
        for (int j = 0; j < kTableCodes; ++j) {
          const int code = second == 0 ? codes[j] : codes[j] + (codes[j + second] << 4);
          entry += (i >> j & 1) * code;
        }
        table[i] = static_cast<uint8_t>(entry);
      }
    }
  }
}

LookupTarget lookup_scalar_target() {
  return {kLanes, 8, 1, "scalar", tile, finish, make_tables_scalar};
}

}  // namespace bitstrata::kernels
