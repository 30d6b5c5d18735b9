// Packing for the CPU's own GEMM, compiled once per instruction set (Highway; hence the toggled include
// guard).
//
// The micro-kernel multiplies 32-bit words. A word holds one term of the sum over k as FP32 (FmaWords), or
// two neighbouring terms as BF16, the lower k in the lower half (DotWords); an odd k is completed by a zero.
// Packed B is panels of words [depth, width], packed A a strip of words in either form.
#if defined(JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_
#undef JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_
#else
#define JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/tensor/tensor.h"

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = HWY_FULL(float);
using V = hn::Vec<D>;
static_assert(kLanes == 4 || kLanes == 8 || kLanes == 16);

HWY_INLINE V LoadAsF32(D d, const float* p) { return hn::LoadU(d, p); }

// BF16 bits widened to 32 bits, in the lower half.
HWY_INLINE auto LoadBits(D, const bf16* p) {
  const hn::Rebind<uint16_t, D> d16;
  return hn::PromoteTo(hn::RebindToUnsigned<D>(), hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)));
}
HWY_INLINE V LoadAsF32(D d, const bf16* p) { return hn::BitCast(d, hn::ShiftLeft<16>(LoadBits(d, p))); }

// Words of one term. BF16 -> FP32 is exact.
template <typename In>
struct FmaWords {
  using Element = In;
  static constexpr int64_t kTerms = 1;  // per word

  static HWY_INLINE V MulAdd(V a, V b, V sum) { return hn::MulAdd(a, b, sum); }
  // The words at p[0..), contiguous in k.
  static HWY_INLINE V Load(D d, const In* p) { return LoadAsF32(d, p); }
  static HWY_INLINE float Word(const In* p, int64_t /*terms*/) { return static_cast<float>(*p); }
  // to[j] = the word of terms p[j], p[j + pitch], ... (as many as `terms` allows), j < n.
  static HWY_INLINE void StackRows(const In* p, int64_t /*pitch*/, int64_t /*terms*/, int64_t n, float* to) {
    const D d;
    int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes) hn::StoreU(LoadAsF32(d, p + j), d, to + j);
    for (; j < n; ++j) to[j] = static_cast<float>(p[j]);
  }
  // Whether rows contiguous in k can be read as words where they lie.
  static bool InPlace(const Tensor&, int64_t /*k*/) { return std::is_same_v<In, float>; }
};

#if HWY_TARGET <= HWY_AVX3  // or better
// Words of two terms, for vdpbf16ps: sum = fma(a[1], b[1], sum), then fma(a[0], b[0], sum), each rounded to
// nearest, with denormals taken as zero.
struct DotWords {
  using Element = bf16;
  static constexpr int64_t kTerms = 2;

  static HWY_INLINE V MulAdd(V a, V b, V sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));  // Highway has no name for it
    return sum;
  }
  static HWY_INLINE V Load(D d, const bf16* p) {
    const hn::Repartition<uint16_t, D> d16;
    return hn::BitCast(d, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)));
  }
  static HWY_INLINE float Word(const bf16* p, int64_t terms) { return Join(p[0], terms > 1 ? p[1] : bf16()); }
  static HWY_INLINE void StackRows(const bf16* p, int64_t pitch, int64_t terms, int64_t n, float* to) {
    const D d;
    int64_t j = 0;
    if (terms > 1) {
      for (; j + kLanes <= n; j += kLanes) {
        const auto upper = hn::ShiftLeft<16>(LoadBits(d, p + pitch + j));
        hn::StoreU(hn::BitCast(d, hn::Or(upper, LoadBits(d, p + j))), d, to + j);
      }
    }
    for (; j < n; ++j) to[j] = Join(p[j], terms > 1 ? p[pitch + j] : bf16());
  }
  static bool InPlace(const Tensor& t, int64_t k) {
    return k % 2 == 0 && t.pitch % 2 == 0 && reinterpret_cast<uintptr_t>(t.data) % alignof(float) == 0;
  }

 private:
  static HWY_INLINE float Join(bf16 lower, bf16 upper) {
    return std::bit_cast<float>(uint32_t{lower.bits} | uint32_t{upper.bits} << 16);
  }
};
#endif

// Transposes 4x4 words within each 128-bit block: block g of r[i] becomes column i of the block that was rows
// 0..3.
HWY_INLINE void TransposeInBlocks(D d, V& r0, V& r1, V& r2, V& r3) {
  const hn::RepartitionToWide<D> dw;
  const auto low = hn::BitCast(dw, hn::InterleaveLower(d, r0, r1));    // 00 10 01 11
  const auto high = hn::BitCast(dw, hn::InterleaveUpper(d, r0, r1));   // 02 12 03 13
  const auto low2 = hn::BitCast(dw, hn::InterleaveLower(d, r2, r3));   // 20 30 21 31
  const auto high2 = hn::BitCast(dw, hn::InterleaveUpper(d, r2, r3));  // 22 32 23 33
  r0 = hn::BitCast(d, hn::InterleaveLower(dw, low, low2));
  r1 = hn::BitCast(d, hn::InterleaveUpper(dw, low, low2));
  r2 = hn::BitCast(d, hn::InterleaveLower(dw, high, high2));
  r3 = hn::BitCast(d, hn::InterleaveUpper(dw, high, high2));
}

// to[c*to_pitch + r] = word c of row r, for a square of kLanes x kLanes words; rows from_pitch elements
// apart.
template <typename Words>
HWY_INLINE void TransposeSquare(const typename Words::Element* from, int64_t from_pitch, float* to, int64_t to_pitch) {
  const D d;
  V t[kLanes];
#pragma GCC unroll 16
  for (int64_t r = 0; r < kLanes; ++r) t[r] = Words::Load(d, from + r * from_pitch);
#pragma GCC unroll 4
  for (int64_t r = 0; r < kLanes; r += 4) TransposeInBlocks(d, t[r], t[r + 1], t[r + 2], t[r + 3]);
    // Now block b of t[4g+i] holds rows 4g..4g+3 of column 4b+i: transpose the blocks (g,b).
#pragma GCC unroll 4
  for (int64_t i = 0; i < 4; ++i) {
    float* column = to + i * to_pitch;
    if constexpr (kLanes == 16) {
      const V low02 = hn::ConcatLowerLower(d, t[8 + i], t[i]), high02 = hn::ConcatUpperUpper(d, t[8 + i], t[i]);
      const V low13 = hn::ConcatLowerLower(d, t[12 + i], t[4 + i]);
      const V high13 = hn::ConcatUpperUpper(d, t[12 + i], t[4 + i]);
      hn::StoreU(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(low13), low02), d, column);
      hn::StoreU(hn::OddEvenBlocks(low13, hn::SwapAdjacentBlocks(low02)), d, column + 4 * to_pitch);
      hn::StoreU(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(high13), high02), d, column + 8 * to_pitch);
      hn::StoreU(hn::OddEvenBlocks(high13, hn::SwapAdjacentBlocks(high02)), d, column + 12 * to_pitch);
    } else if constexpr (kLanes == 8) {
      hn::StoreU(hn::ConcatLowerLower(d, t[4 + i], t[i]), d, column);
      hn::StoreU(hn::ConcatUpperUpper(d, t[4 + i], t[i]), d, column + 4 * to_pitch);
    } else {
      hn::StoreU(t[i], d, column);
    }
  }
}

// Words in `terms` terms.
template <typename Words>
constexpr int64_t WordsIn(int64_t terms) {
  return (terms + Words::kTerms - 1) / Words::kTerms;
}

// One panel from b lying plain, [k, n]: to[w*width + j] = word w of column j for j < cols; zero for cols <= j
// < width.
template <typename Words>
void PackPlain(const typename Words::Element* b, int64_t pitch, int64_t terms, int64_t cols, int64_t width, float* to) {
  for (int64_t l = 0; l < terms; l += Words::kTerms, to += width) {
    Words::StackRows(b + l * pitch, pitch, terms - l, cols, to);
    std::fill(to + cols, to + width, 0.0f);
  }
}

// The same from b lying transposed, [n, k].
template <typename Words>
void PackTransposed(const typename Words::Element* b, int64_t pitch, int64_t terms, int64_t cols, int64_t width, float* to) {
  const int64_t depth = WordsIn<Words>(terms);
  for (int64_t j = 0; j < width; j += kLanes) {
    const int64_t valid = std::min(kLanes, cols - j);
    const auto* rows = b + j * pitch;
    int64_t w = 0;
    for (; valid == kLanes && (w + kLanes) * Words::kTerms <= terms; w += kLanes) {
      TransposeSquare<Words>(rows + w * Words::kTerms, pitch, to + w * width + j, width);
    }
    for (; w < depth; ++w) {
      float* words = to + w * width + j;
      const int64_t l = w * Words::kTerms;
      for (int64_t i = 0; i < valid; ++i) words[i] = Words::Word(rows + i * pitch + l, terms - l);
      std::fill(words + valid, words + kLanes, 0.0f);
    }
  }
}

// to[w] = word w of one row contiguous in k.
template <typename Words>
void PackRow(const typename Words::Element* row, int64_t terms, float* to) {
  const D d;
  int64_t l = 0;
  for (; l + kLanes * Words::kTerms <= terms; l += kLanes * Words::kTerms, to += kLanes) {
    hn::StoreU(Words::Load(d, row + l), d, to);
  }
  for (; l < terms; l += Words::kTerms) *to++ = Words::Word(row + l, terms - l);
}

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();
#endif  // a target with vectors

#endif  // JEVONS_KERNELS_CPU_GEMM_PACK_INL_H_
