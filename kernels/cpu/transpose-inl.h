// Transposes bytes in registers, a cache line of 16 columns at a time. Included once per instruction set.
#include "hwy/cache_control.h"
#include "kernels/cpu/quantize-inl.h"

#if defined(JEVONS_KERNELS_CPU_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_TRANSPOSE_INL_H_
#undef JEVONS_KERNELS_CPU_TRANSPOSE_INL_H_
#else
#define JEVONS_KERNELS_CPU_TRANSPOSE_INL_H_
#endif

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {

// 16 bytes of kVectorBytes / 16 rows that are 16 rows apart.
HWY_INLINE V8 LoadBlocks(const uint8_t* p) {
  constexpr int64_t kNext = 16 * kTileSize;
  if constexpr (kVectorBytes == 16) {
    return hn::LoadU(D8(), p);
  } else {
    const hn::Half<D8> half;
    const auto two = [&](const uint8_t* q) JEVONS_LANES {
      if constexpr (kVectorBytes == 32) {
        return hn::LoadU(half, q);
      } else {
        const hn::Half<decltype(half)> quarter;
        return hn::Combine(half, hn::LoadU(quarter, q + kNext), hn::LoadU(quarter, q));
      }
    };
    return hn::Combine(D8(), two(p + kVectorBytes / 32 * kNext), two(p));
  }
}

// kVectorBytes rows of 16 columns from `codes` on, rows kTileSize apart: columns, one to a vector. Each step moves a bit of the row's number, from the highest
// on, into that of the byte, and the highest of the column's out of it.
HWY_INLINE void LoadColumns(const uint8_t* codes, V8* v) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < 16; ++i) v[i] = LoadBlocks(codes + i * kTileSize);
#pragma GCC unroll 4
  for (int step = 0; step < 4; ++step) {
    V8 w[16];
#pragma GCC unroll 8
    for (int64_t i = 0; i < 8; ++i) {
      w[2 * i] = hn::InterleaveLower(D8(), v[i], v[i + 8]);
      w[2 * i + 1] = hn::InterleaveUpper(D8(), v[i], v[i + 8]);
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < 16; ++i) v[i] = w[i];
  }
}

inline constexpr int64_t kLine = 64;
// kLine rows of 16 columns: vectors of each kVectorBytes rows, one after the other.
inline constexpr int64_t kLineVectors = kLine / kVectorBytes;
using Columns = V8[kLineVectors * 16];

// Rows are kTileSize apart.
HWY_INLINE void LoadLines(const uint8_t* codes, Columns& columns) {
#pragma GCC unroll 4
  for (int64_t i = 0; i < kLineVectors; ++i) LoadColumns(codes + i * kVectorBytes * kTileSize, columns + i * 16);
}

// Writes the first n columns, column j from to + j * pitch on; a line whole, as writing past the caches wants it.
template <bool kStream>
HWY_INLINE void StoreLines(const Columns& columns, uint8_t* to, int64_t pitch, int64_t n) {
#pragma GCC unroll 16
  for (int64_t j = 0; j < 16; ++j, to += pitch) {
    if (j >= n) break;
#pragma GCC unroll 4
    for (int64_t i = 0; i < kLineVectors; ++i) {
      if constexpr (kStream) {
        hn::Stream(columns[i * 16 + j], D8(), to + i * kVectorBytes);
      } else {
        hn::StoreU(columns[i * 16 + j], D8(), to + i * kVectorBytes);
      }
    }
  }
}

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HWY_SCALAR

#endif  // per-target include guard
