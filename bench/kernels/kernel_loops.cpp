// How many multiply-accumulates per second the instruction sequences of the kernels reach on this CPU when
// nothing else stands in their way: operands in the first cache, no rows to copy, no tables to fill, no codes
// to write. What a kernel can hope for.

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <cstdint>
#include <cstdio>

namespace {

constexpr int kSteps = 144;  // of a reduction: 3x3 taps of 64 channels in groups of 4

/// Operands of all loops; each reads less than 32 KiB of them.
struct alignas(64) Operands {
  uint8_t tables[kSteps * 4 * 16], indices[kSteps * 2 * 32];
  uint8_t codes[kSteps * 4 * 4], weights[kSteps * 2 * 64];
  uint8_t out[512];
  float multipliers[32], addends[32];
  Operands() {
    uint32_t x = 1;
    const auto next = [&x] { return static_cast<uint8_t>((x = x * 1664525 + 1013904223) >> 24); };
    for (uint8_t& v : tables) v = next() & 15;
    for (uint8_t& v : indices) v = next() & 15;
    for (uint8_t& v : codes) v = next() & 15;
    for (uint8_t& v : weights) v = next() & 7;
    for (float& v : multipliers) v = 0.01f;
    for (float& v : addends) v = 0.5f;
  }
};
Operands o;

/// Keeps a vector in a register, and the compiler from merging or hoisting what makes it.
template <typename V>
[[gnu::always_inline]] inline void keep(V& x) {
  asm volatile("" : "+v"(x));
}
template <typename V, int kRows, int kColumns>
[[gnu::always_inline]] inline void keep_all(V (&sums)[kRows][kColumns]) {
#pragma GCC unroll 8
  for (auto& row : sums)
#pragma GCC unroll 8
    for (V& sum : row) keep(sum);
}
template <typename V, int kRows, int kColumns>
[[gnu::always_inline]] inline void clear(V (&sums)[kRows][kColumns]) {
#pragma GCC unroll 8
  for (auto& row : sums)
#pragma GCC unroll 8
    for (V& sum : row) sum = V{};
}

#define BITSTRATA_AVX2 __attribute__((noinline, target("avx2")))
#define BITSTRATA_VNNI __attribute__((noinline, target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define BITSTRATA_VPOPCNT __attribute__((noinline, target("avx512f,avx512bw,avx512vpopcntdq")))

// Every loop returns the products of one pass of it.

/// AND + VPOPCNTDQ: 512 one-bit products per pair of vectors, a tile of 4 pixels by 4 vectors of channels.
BITSTRATA_VPOPCNT int64_t and_vpopcnt() {
  constexpr int kPixels = 4, kChannels = 4;
  __m512i sums[kPixels][kChannels];
  clear(sums);
  for (int i = 0; i < 64; ++i) {
    __m512i weights[kChannels];
#pragma GCC unroll 4
    for (int c = 0; c < kChannels; ++c) weights[c] = _mm512_load_si512(o.weights + (i * kChannels + c) * 64);
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) {
      const __m512i x = _mm512_set1_epi64(*reinterpret_cast<const int64_t*>(o.codes + (i * kPixels + p) * 8));
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c)
        sums[p][c] = _mm512_add_epi64(sums[p][c], _mm512_popcnt_epi64(_mm512_and_si512(x, weights[c])));
    }
  }
  keep_all(sums);
  return int64_t{64} * kPixels * kChannels * 512;
}

/// AND, bits counted by two byte shuffles, sums of 8 bits widened every 15 steps.
BITSTRATA_AVX2 int64_t and_shuffle() {
  constexpr int kPixels = 2, kChannels = 2, kRun = 15;
  const __m256i counts =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m256i low = _mm256_set1_epi8(15);
  __m256i sums[kPixels][kChannels];
  clear(sums);
  for (int i = 0; i + kRun <= kSteps; i += kRun) {
    __m256i bytes[kPixels][kChannels];
    clear(bytes);
    for (int j = i; j < i + kRun; ++j) {
#pragma GCC unroll 2
      for (int p = 0; p < kPixels; ++p) {
        const __m256i x =
            _mm256_set1_epi64x(*reinterpret_cast<const int64_t*>(o.codes + (j * kPixels + p) * 8));
#pragma GCC unroll 2
        for (int c = 0; c < kChannels; ++c) {
          const __m256i weights =
              _mm256_load_si256(reinterpret_cast<const __m256i*>(o.weights) + j * kChannels + c);
          const __m256i bits = _mm256_and_si256(x, weights);
          const __m256i a = _mm256_shuffle_epi8(counts, _mm256_and_si256(bits, low));
          const __m256i b = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(bits, 4), low));
          bytes[p][c] = _mm256_add_epi8(bytes[p][c], _mm256_add_epi8(a, b));
        }
      }
    }
    for (int p = 0; p < kPixels; ++p)
      for (int c = 0; c < kChannels; ++c)
        sums[p][c] = _mm256_add_epi64(sums[p][c], _mm256_sad_epu8(bytes[p][c], _mm256_setzero_si256()));
  }
  keep_all(sums);
  return int64_t{kSteps / kRun * kRun} * kPixels * kChannels * 256;
}

[[gnu::always_inline, gnu::target("avx2")]] inline __m256i table(int at) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(o.tables) + at));
}
[[gnu::always_inline, gnu::target("avx2")]] inline __m256i indices(int at) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(o.indices) + at);
}

/// Lookup with one pixel per table: a shuffle gives 32 channels the sum of 4 products with one bit of the
/// weights. The bytes are widened to 16 bits every kRun steps.
template <int kRun>
BITSTRATA_AVX2 int64_t look_up() {
  constexpr int kPixels = 4, kVectors = 2;
  __m256i wide[kPixels][kVectors];
  clear(wide);
  for (int i = 0; i + kRun <= kSteps; i += kRun) {
    __m256i sums[kPixels][kVectors];
    clear(sums);
#pragma GCC unroll 4
    for (int j = i; j < i + kRun; ++j) {
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        __m256i entries = table(j * kPixels + p);
        keep(entries);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          sums[p][v] = _mm256_add_epi8(sums[p][v], _mm256_shuffle_epi8(entries, indices(j * kVectors + v)));
          keep(sums[p][v]);
        }
      }
    }
    if (kRun == kSteps) {
      for (int p = 0; p < kPixels; ++p)
        for (int v = 0; v < kVectors; ++v) wide[p][v] = sums[p][v];
    } else {  // even and odd bytes by themselves, as the kernel does: here both into one
      for (int p = 0; p < kPixels; ++p)
        for (int v = 0; v < kVectors; ++v) {
          const __m256i odd = _mm256_srli_epi16(sums[p][v], 8);
          wide[p][v] = _mm256_add_epi16(
              wide[p][v], _mm256_add_epi16(odd, _mm256_and_si256(sums[p][v], _mm256_set1_epi16(255))));
        }
    }
  }
  keep_all(wide);
  return int64_t{kSteps / kRun * kRun} * kPixels * kVectors * 32 * 4;
}

/// Lookup with two pixels per table entry, 4 bits each: sums of kRun entries fit a byte, then the halves are
/// taken apart.
template <int kRun>
BITSTRATA_AVX2 int64_t look_up_pairs() {
  constexpr int kPairs = 2, kVectors = 2;
  __m256i both[kPairs][kVectors], high[kPairs][kVectors];
  clear(both);
  clear(high);
  for (int i = 0; i + kRun <= kSteps; i += kRun) {
    __m256i sums[kPairs][kVectors];
#pragma GCC unroll 3
    for (int j = 0; j < kRun; ++j) {
#pragma GCC unroll 2
      for (int p = 0; p < kPairs; ++p) {
        __m256i entries = table((i + j) * kPairs + p);
        keep(entries);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          __m256i sum = _mm256_shuffle_epi8(entries, indices((i + j) * kVectors + v));
          if (j > 0) sum = _mm256_add_epi8(sums[p][v], sum);
          keep(sum);
          sums[p][v] = sum;
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        both[p][v] = _mm256_add_epi8(both[p][v], sums[p][v]);
        high[p][v] = _mm256_add_epi8(high[p][v], _mm256_srli_epi16(sums[p][v], 4));
        keep(both[p][v]);
        keep(high[p][v]);
      }
    }
  }
  keep_all(both);
  keep_all(high);
  return int64_t{kSteps / kRun * kRun} * kPairs * 2 * kVectors * 32 * 4;
}

/// VNNI on 8 pixels by 2 vectors of channels; with_end: the sums become 8-bit codes (multiply, add, scale,
/// clamp, round).
template <bool kWithEnd>
BITSTRATA_VNNI int64_t vnni() {
  constexpr int kPixels = 8;
  __m512i sums[kPixels][2];
  clear(sums);
  for (int i = 0; i < kSteps; ++i) {
    const __m512i w0 = _mm512_load_si512(o.weights + i * 128);
    const __m512i w1 = _mm512_load_si512(o.weights + i * 128 + 64);
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
      const __m512i x = _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(o.codes + (i + p) * 4));
      sums[p][0] = _mm512_dpbusd_epi32(sums[p][0], x, w0);
      sums[p][1] = _mm512_dpbusd_epi32(sums[p][1], x, w1);
    }
  }
  if (kWithEnd) {
    const __m512 scale = _mm512_set1_ps(0.3f), most = _mm512_set1_ps(255.0f), zero = _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[p][v]), _mm512_load_ps(o.multipliers + 16 * v));
        y = _mm512_mul_ps(_mm512_add_ps(y, _mm512_load_ps(o.addends + 16 * v)), scale);
        const __m512i code = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(y, zero), most));
        _mm_store_si128(reinterpret_cast<__m128i*>(o.out + 64 * p + 16 * v), _mm512_cvtepi32_epi8(code));
      }
    }
    benchmark::ClobberMemory();  // the codes count as read
  } else {
    keep_all(sums);
  }
  return int64_t{kSteps} * kPixels * 2 * 64;
}

void measure(const char* name, bool supported, int64_t (*loop)()) {
  if (!supported) return;
  benchmark::RegisterBenchmark(name, [loop](benchmark::State& state) {
    int64_t products = 0;
    for (auto unused : state) products += loop();
    state.counters["GMAC/s"] =
        benchmark::Counter(static_cast<double>(products) * 1e-9, benchmark::Counter::kIsRate);
  });
}

void register_all() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") != 0, wide = __builtin_cpu_supports("avx512bw") != 0;
  if (!avx2) std::fprintf(stderr, "no AVX2: nothing to measure\n");
  measure("bitplane/vpopcntdq/w1a1", wide && __builtin_cpu_supports("avx512vpopcntdq"), and_vpopcnt);
  measure("bitplane/avx2/w1a1", avx2, and_shuffle);
  measure("lookup/avx2/w1a1", avx2, look_up_pairs<3>);
  measure("lookup/avx2/w1a2", avx2, look_up_pairs<1>);
  measure("lookup/avx2/w1/one_pixel", avx2, look_up<kSteps>);
  measure("lookup/avx2/w1/one_pixel_widened_every_9", avx2, look_up<9>);
  const bool vnni_there = wide && __builtin_cpu_supports("avx512vnni");
  measure("int8/vnni", vnni_there, vnni<false>);
  measure("int8/vnni/with_end", vnni_there, vnni<true>);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
