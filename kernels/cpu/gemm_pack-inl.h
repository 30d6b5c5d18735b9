// Packing for the CPU's own GEMM, compiled once per instruction set (Highway; hence the toggled include guard).
// Everything becomes FP32: BF16 -> FP32 is exact.
#if defined(JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_
#undef JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_
#else
#define JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/tensor/dtype.h"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = HWY_FULL(float);
using V = hn::Vec<D>;
constexpr int64_t kLanes = HWY_LANES(float);
static_assert(kLanes == 4 || kLanes == 8 || kLanes == 16);

HWY_INLINE V LoadAsF32(D d, const float* p) { return hn::LoadU(d, p); }
HWY_INLINE V LoadAsF32(D d, const bf16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

// to[0..n) = from[0..n)
template <typename In>
HWY_INLINE void CopyRow(const In* HWY_RESTRICT from, int64_t n, float* HWY_RESTRICT to) {
  const D d;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(LoadAsF32(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = static_cast<float>(from[i]);
}

// Transposes 4x4 elements within each 128-bit block: block g of r[i] becomes column i of the block that was rows 0..3.
HWY_INLINE void TransposeInBlocks(D d, V& r0, V& r1, V& r2, V& r3) {
  const hn::RepartitionToWide<D> dw;
  const auto low = hn::BitCast(dw, hn::InterleaveLower(d, r0, r1));    // 00 10 01 11
  const auto high = hn::BitCast(dw, hn::InterleaveUpper(d, r0, r1));   // 02 12 03 13
  const auto low2 = hn::BitCast(dw, hn::InterleaveLower(d, r2, r3));   // 20 30 21 31
  const auto high2 = hn::BitCast(dw, hn::InterleaveUpper(d, r2, r3));
  r0 = hn::BitCast(d, hn::InterleaveLower(dw, low, low2));
  r1 = hn::BitCast(d, hn::InterleaveUpper(dw, low, low2));
  r2 = hn::BitCast(d, hn::InterleaveLower(dw, high, high2));
  r3 = hn::BitCast(d, hn::InterleaveUpper(dw, high, high2));
}

// to[c*to_pitch + r] = from[r*from_pitch + c] for a square of kLanes x kLanes.
template <typename In>
HWY_INLINE void TransposeSquare(const In* HWY_RESTRICT from, int64_t from_pitch, float* HWY_RESTRICT to,
                                int64_t to_pitch) {
  const D d;
  V t[kLanes];
#pragma GCC unroll 16
  for (int64_t r = 0; r < kLanes; ++r) t[r] = LoadAsF32(d, from + r * from_pitch);
#pragma GCC unroll 4
  for (int64_t r = 0; r < kLanes; r += 4) TransposeInBlocks(d, t[r], t[r + 1], t[r + 2], t[r + 3]);
  // Now block b of t[4g+i] holds rows 4g..4g+3 of column 4b+i: transpose the blocks (g,b).
#pragma GCC unroll 4
  for (int64_t i = 0; i < 4; ++i) {
    if constexpr (kLanes == 16) {
      const V low02 = hn::ConcatLowerLower(d, t[8 + i], t[i]), high02 = hn::ConcatUpperUpper(d, t[8 + i], t[i]);
      const V low13 = hn::ConcatLowerLower(d, t[12 + i], t[4 + i]);
      const V high13 = hn::ConcatUpperUpper(d, t[12 + i], t[4 + i]);
      hn::StoreU(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(low13), low02), d, to + i * to_pitch);
      hn::StoreU(hn::OddEvenBlocks(low13, hn::SwapAdjacentBlocks(low02)), d, to + (4 + i) * to_pitch);
      hn::StoreU(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(high13), high02), d, to + (8 + i) * to_pitch);
      hn::StoreU(hn::OddEvenBlocks(high13, hn::SwapAdjacentBlocks(high02)), d, to + (12 + i) * to_pitch);
    } else if constexpr (kLanes == 8) {
      hn::StoreU(hn::ConcatLowerLower(d, t[4 + i], t[i]), d, to + i * to_pitch);
      hn::StoreU(hn::ConcatUpperUpper(d, t[4 + i], t[i]), d, to + (4 + i) * to_pitch);
    } else {
      hn::StoreU(t[i], d, to + i * to_pitch);
    }
  }
}

// One panel of B from b[k, n] lying plain: to[l*width + j] = b[l, j] for l < depth, j < cols; zero for cols <= j < width.
template <typename In>
void PackPlain(const In* b, int64_t pitch, int64_t depth, int64_t cols, int64_t width, float* to) {
  for (int64_t l = 0; l < depth; ++l) {
    CopyRow(b + l * pitch, cols, to + l * width);
    std::fill(to + l * width + cols, to + (l + 1) * width, 0.0f);
  }
}

// The same from b lying transposed, [n, k]: to[l*width + j] = b[j, l].
template <typename In>
void PackTransposed(const In* b, int64_t pitch, int64_t depth, int64_t cols, int64_t width, float* to) {
  for (int64_t j = 0; j < width; j += kLanes) {
    int64_t l = 0;
    if (j + kLanes <= cols) {
      for (; l + kLanes <= depth; l += kLanes) TransposeSquare(b + j * pitch + l, pitch, to + l * width + j, width);
    }
    const int64_t valid = std::clamp(cols - j, int64_t{0}, kLanes);
    for (; l < depth; ++l) {
      float* row = to + l * width + j;
      for (int64_t i = 0; i < valid; ++i) row[i] = static_cast<float>(b[(j + i) * pitch + l]);
      std::fill(row + valid, row + kLanes, 0.0f);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();
#endif  // a target with vectors

#endif  // JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_
