// Rows of a tile, kTileSize numbers or codes each, to codes and back: Encode and Decode of kernels/fp8/formats.h, a vector at a
// time, for finite numbers resp. all codes. Included once per instruction set; HWY_SCALAR has no vectors to rearrange and leaves
// the work to the scalar reference.
#include <algorithm>
#include <type_traits>

#include "kernels/cpu/simd-inl.h"
#include "kernels/ops/quantize.h"

#if defined(JEVONS_KERNELS_CPU_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_QUANTIZE_INL_H_
#undef JEVONS_KERNELS_CPU_QUANTIZE_INL_H_
#else
#define JEVONS_KERNELS_CPU_QUANTIZE_INL_H_
#endif

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {

using U32 = hn::RebindToUnsigned<F32>;
using V32 = hn::Vec<U32>;
using D16 = hn::Repartition<uint16_t, F32>;  // whole vectors: two, four times as many lanes
using V16 = hn::Vec<D16>;
using D8 = hn::Repartition<uint8_t, F32>;
using V8 = hn::Vec<D8>;
inline constexpr int64_t kVectorBytes = 4 * kLanes;

// Bit by bit: mask ? yes : no.
template <class V>
HWY_INLINE V SelectBits(V mask, V yes, V no) {
#if HWY_TARGET == HWY_AVX3
  return hn::IfVecThenElse(mask, yes, no);  // elsewhere it selects by lanes or bytes
#else
  return hn::OrAnd(hn::AndNot(mask, no), mask, yes);
#endif
}

inline constexpr uint32_t kInfinityBits = 0x7F800000u;

HWY_INLINE V32 MagnitudeBits(VF v) { return hn::And(hn::BitCast(U32(), v), hn::Set(U32(), 0x7FFFFFFFu)); }

// 2 * kLanes consecutive numbers as two vectors. Numbers in FP32 lie one vector after the other; of BF16 `a` has the even ones,
// `b` the odd ones, which takes no shuffles.
struct Two {
  VF a, b;
};
template <typename S>
constexpr int64_t PlaceInTwo(int64_t i) {  // of number i in an array of such vectors
  constexpr int64_t kTwo = 2 * kLanes;
  return sizeof(S) == 4 ? i : i / kTwo * kTwo + i % 2 * kLanes + i % kTwo / 2;
}

// Elements as they lie in memory, the bits of their magnitudes, and BF16 as numbers.
HWY_INLINE VF LoadElements(const float* p) { return Load(p); }
HWY_INLINE V16 LoadElements(const bf16* p) { return hn::LoadU(D16(), &p->bits); }
HWY_INLINE void StoreElements(VF v, float* p) { Store(v, p); }
HWY_INLINE void StoreElements(V16 v, bf16* p) { hn::StoreU(v, D16(), &p->bits); }
HWY_INLINE V32 WithoutSign(VF v) { return MagnitudeBits(v); }
HWY_INLINE V16 WithoutSign(V16 v) { return hn::And(v, hn::Set(D16(), uint16_t{0x7FFF})); }
template <typename S>
using Maxima = decltype(WithoutSign(LoadElements(static_cast<const S*>(nullptr))));
HWY_INLINE Two Split(V16 bf16s) {
  const V32 bits = hn::BitCast(U32(), bf16s);
  return {hn::BitCast(F32(), hn::ShiftLeft<16>(bits)), hn::BitCast(F32(), hn::And(bits, hn::Set(U32(), 0xFFFF0000u)))};
}

// Elements to a vector, largest magnitudes by lane in the bits of the numbers' own type, and these as FP32. At least infinity's
// bits if there is an infinity or NaN.
template <typename S>
inline constexpr int64_t kElements = kLanes * 4 / static_cast<int64_t>(sizeof(S));
HWY_INLINE V32 WidestOf(V32 maxima) { return maxima; }
HWY_INLINE V32 WidestOf(V16 maxima) {
  const Two two = Split(maxima);
  return hn::Max(hn::BitCast(U32(), two.a), hn::BitCast(U32(), two.b));
}
HWY_INLINE void StoreWords(V32 maxima, uint32_t* words) { hn::StoreU(maxima, U32(), words); }
HWY_INLINE void StoreWords(V16 maxima, uint32_t* words) {  // in the order of PlaceInTwo
  const Two two = Split(maxima);
  hn::StoreU(hn::BitCast(U32(), two.a), U32(), words);
  hn::StoreU(hn::BitCast(U32(), two.b), U32(), words + kLanes);
}
template <typename S>
HWY_INLINE Maxima<S> MaximaOfRow(const S* x, Maxima<S> maxima) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < kTileSize; i += kElements<S>) maxima = hn::Max(maxima, WithoutSign(LoadElements(x + i)));
  return maxima;
}

// ScaleOf and its inverse, for n tiles; n is rounded up to whole vectors. `amax` has the bits of finite numbers: of others the
// results mean nothing.
template <class F>
HWY_INLINE void FindScales(const uint32_t* amax, int64_t n, ScaleKind kind, float* scales, float* inverses) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const VF largest = hn::Max(hn::BitCast(F32(), hn::LoadU(U32(), amax + i)), hn::Set(F32(), kAmaxFloor));
    VF scale = hn::Div(largest, hn::Set(F32(), F::kMax));
    if (kind == ScaleKind::kPowerOfTwo) {
      const V32 up = hn::Add(hn::BitCast(U32(), scale), hn::Set(U32(), 0x007FFFFFu));
      scale = hn::BitCast(F32(), hn::And(up, hn::Set(U32(), kInfinityBits)));
    }
    hn::StoreU(scale, F32(), scales + i);
    hn::StoreU(hn::Div(hn::Set(F32(), 1.0f), scale), F32(), inverses + i);
  }
}

// What to add to numbers in [2^e, 2^(e+1)) for their codes (EncodingMagic), which all numbers below the smallest normal one share
// with it; `v`: not negative. Where a vector has as many lanes as E4M3 has exponents, and one, they are looked up.
template <class F>
HWY_INLINE VF MagicFor(VF v) {
  using B = FormatBits<F>;
  const U32 d;
  const V32 clamped = hn::Max(hn::BitCast(d, v), hn::Set(d, B::kMinNormal));
#if HWY_TARGET == HWY_AVX3
  if constexpr (std::is_same_v<F, E4M3>) {
    struct Table {
      uint32_t magic[16];
      constexpr Table() : magic() {
        for (uint32_t e = B::kMinNormal >> 23; e <= B::kMax >> 23; ++e) magic[e % 16] = EncodingMagic<F>(e << 23);
      }
    };
    alignas(64) static constexpr Table kTable;
    // The instruction looks at four bits of an index alone; Highway would have the others cleared.
    return VF{_mm512_permutexvar_ps(hn::ShiftRight<23>(clamped).raw, hn::BitCast(F32(), hn::Load(d, kTable.magic)).raw)};
  }
#endif
  const V32 exponent = hn::And(clamped, hn::Set(d, kInfinityBits));
  const V32 offset = hn::Set(d, EncodingMagic<F>(0));
  return hn::BitCast(F32(), hn::Add(hn::Add(exponent, offset), hn::ShiftRight<B::kShift>(exponent)));
}

// The codes, without signs, of finite numbers that round to F::kMax at most, one per lane, as what a tile's own scale leaves. The
// steps are those of Encode; bits from the sign's on are not cleared. `v`: not negative.
template <class F>
HWY_INLINE V32 EncodeMagnitudes(VF v) {
  return hn::BitCast(U32(), hn::Add(v, MagicFor<F>(v)));
}

// Adds one in each lane whose magnitude x its scale makes zero. `scaled` is x times the inverse scale. Nothing saturates: no
// element exceeds its tile's amax. (Not by counting the bits of masks: GCC 12 spills 16 of them and counts 64.)
template <class F>
HWY_INLINE void CountLost(VF x, VF scaled, V32& lost) {
  const VF limit = hn::Set(F32(), FormatBits<F>::kSmallest / 2);  // a tie, to even: zero
  const auto mask = hn::And(hn::Le(scaled, limit), hn::Ne(x, hn::Zero(F32())));
  lost = hn::Sub(lost, hn::BitCast(U32(), hn::VecFromMask(F32(), mask)));
}

// EncodeMagnitudes of 2 * kLanes magnitudes times the inverse scales, as bits.
template <class F, bool kCount>
HWY_INLINE Two EncodeTwo(const Two& magnitudes, const Two& inverse, V32& lost) {
  const VF a = hn::Mul(magnitudes.a, inverse.a), b = hn::Mul(magnitudes.b, inverse.b);
  if constexpr (kCount) CountLost<F>(magnitudes.a, a, lost), CountLost<F>(magnitudes.b, b, lost);
  return {hn::BitCast(F32(), EncodeMagnitudes<F>(a)), hn::BitCast(F32(), EncodeMagnitudes<F>(b))};
}
// The codes of 2 * kLanes finite numbers, in their order, one in the lower bits of each word.
template <class F>
inline constexpr int kSignPlace = sizeof(typename F::Code) == 1 ? 7 : 11;
template <class F, bool kCount, bool kSigned>
HWY_INLINE V16 EncodeWords(const float* x, const Two& inverse, V32& lost) {
  const VF a = Load(x), b = Load(x + kLanes);
  const Two codes = EncodeTwo<F, kCount>(kSigned ? Two{hn::Abs(a), hn::Abs(b)} : Two{a, b}, inverse, lost);
  const auto with_sign = [](VF number, VF code) JEVONS_LANES {
    if constexpr (!kSigned) return hn::BitCast(D16(), code);
    const V32 sign = hn::ShiftRight<31 - kSignPlace<F>>(hn::BitCast(U32(), number));
    return hn::BitCast(D16(), SelectBits(hn::Set(U32(), F::kSign), sign, hn::BitCast(U32(), code)));
  };
  return hn::ConcatEven(D16(), with_sign(b, codes.b), with_sign(a, codes.a));
}
template <class F, bool kCount, bool kSigned>
HWY_INLINE V16 EncodeWords(const bf16* x, const Two& inverse, V32& lost) {
  const D16 d;
  const Two codes = EncodeTwo<F, kCount>(Split(WithoutSign(LoadElements(x))), inverse, lost);
  const V32 odd = hn::ShiftLeft<16>(hn::BitCast(U32(), codes.b));
  const V16 words = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, codes.a));
  const V16 signs = hn::ShiftRight<15 - kSignPlace<F>>(LoadElements(x));
  return SelectBits(hn::Set(d, static_cast<uint16_t>(F::kSign)), signs, words);
}

// PackE5M6 in each block of 128 bits: eight codes, the bits above them ignored, to 12 bytes, blocks one right after the other.
// First pairs, the first code higher: 24 bits in a word. Then the bytes to the places that three little-endian words give them.
HWY_INLINE V8 PackCodes(V16 codes) {
  alignas(16) static constexpr uint8_t kBytes[16] = {6, 0, 1, 2, 9, 10, 4, 5, 12, 13, 14, 8, 0, 0, 0, 0};
  alignas(64) static constexpr uint32_t kWords[16] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 0, 0, 0, 0};
  const V32 words = hn::BitCast(U32(), codes);
  const V32 pairs = hn::Or(hn::ShiftRight<8>(hn::ShiftLeft<20>(words)), hn::ShiftRight<20>(hn::ShiftLeft<4>(words)));
  const V8 bytes = hn::TableLookupBytes(hn::BitCast(D8(), pairs), hn::LoadDup128(D8(), kBytes));
  const auto order = hn::IndicesFromVec(U32(), hn::And(hn::LoadU(U32(), kWords), hn::Set(U32(), uint32_t{kLanes - 1})));
  return hn::BitCast(D8(), hn::TableLookupLanes(hn::BitCast(U32(), bytes), order));
}
// The reverse; codes come as FP16 numbers. Bytes after the last 12 do not matter.
HWY_INLINE V16 UnpackCodes(V8 bytes) {
  alignas(16) static constexpr uint8_t kBytes[16] = {1, 2, 3, 0, 6, 7, 0, 0, 11, 4, 5, 0, 8, 9, 10, 0};
  alignas(64) static constexpr uint32_t kWords[16] = {0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11};
  const auto order = hn::SetTableIndices(U32(), kWords);
  const V32 blocks = hn::TableLookupLanes(hn::BitCast(U32(), bytes), order);
  const V32 pairs = hn::BitCast(U32(), hn::TableLookupBytes(hn::BitCast(D8(), blocks), hn::LoadDup128(D8(), kBytes)));
  return hn::BitCast(D16(), hn::OrAnd(hn::ShiftLeft<20>(pairs), hn::ShiftRight<8>(pairs), hn::Set(U32(), 0xFFF0u)));
}

// A row of finite numbers, unless kSigned of their magnitudes; inverse(i) are the inverse scales of numbers i, i + 1, ..., as
// EncodeTwo takes them. Counts in `lost`, if asked for, how many became zero.
template <class F, bool kCount, bool kSigned = true, typename S, class Inverse>
HWY_INLINE void EncodeRow(const S* x, const Inverse& inverse, uint8_t* codes, V32& lost) {
  const auto encode = [&](int64_t i) JEVONS_LANES { return EncodeWords<F, kCount, kSigned>(x + i, inverse(i), lost); };
  if constexpr (sizeof(typename F::Code) == 1) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < kTileSize; i += 4 * kLanes) {
      const V16 low = encode(i), high = encode(i + 2 * kLanes);
      const V8 bytes = hn::ConcatEven(D8(), hn::BitCast(D8(), high), hn::BitCast(D8(), low));
      hn::StoreU(bytes, D8(), codes + i);
    }
  } else {
    for (int64_t i = 0; i < kTileSize; i += 2 * kLanes, codes += 3 * kLanes) {
      const V16 words = encode(i);
      const V8 bytes = PackCodes(words);
      if (i + 2 * kLanes < kTileSize) {
        hn::StoreU(bytes, D8(), codes);
      } else {  // nothing behind the row
        hn::BlendedStore(hn::BitCast(U32(), bytes), hn::FirstN(U32(), static_cast<size_t>(3 * kLanes / 4)), U32(),
                         reinterpret_cast<uint32_t*>(codes));
      }
    }
  }
}

// Codes as FP16 numbers: E5M2 and E5M6 are FP16 with fewer bits, E4M3 has the same bits 2^8 smaller. NaN is FP16's quiet NaN.
template <class F>
inline constexpr float kHalfFactor = F::kIeee ? 1.0f : 256.0f;
template <class F>
HWY_INLINE V16 LoadHalves(const uint8_t* codes, int64_t i) {
  const D16 d;
  V16 half;
  if constexpr (sizeof(typename F::Code) != 1) {
    half = UnpackCodes(hn::LoadU(D8(), codes + i / 8 * 12));
  } else {
    const V16 code = hn::PromoteTo(d, hn::LoadU(hn::Half<D8>(), codes + i));
    half = hn::ShiftLeft<8>(code);
    if constexpr (!F::kIeee)
      half = hn::OrAnd(hn::And(half, hn::Set(d, uint16_t{0x8000})), hn::ShiftLeft<7>(code), hn::Set(d, uint16_t{0x3F80}));
  }
  const hn::RebindToSigned<D16> signed16;
  const auto magnitude = hn::BitCast(signed16, hn::And(half, hn::Set(d, uint16_t{0x7FFF})));
  const auto beyond = hn::Gt(magnitude, hn::Set(signed16, int16_t{F::kIeee ? 0x7C00 : 0x3F00}));
  const V16 nan = hn::OrAnd(hn::Set(d, uint16_t{0x7E00}), half, hn::Set(d, uint16_t{0x8000}));
  return hn::IfThenElse(hn::RebindMask(d, beyond), nan, half);
}
// 2 * kLanes codes from number i on: their values, one vector after the other.
template <class F>
HWY_INLINE Two DecodeTwo(const uint8_t* codes, int64_t i, VF scale) {
  const hn::Rebind<hwy::float16_t, F32> half;
  const V16 halves = LoadHalves<F>(codes, i);
  const auto widen = [&](auto bits) JEVONS_LANES {
    VF v = hn::PromoteTo(F32(), hn::BitCast(half, bits));
    if constexpr (kHalfFactor<F> != 1) v = hn::Mul(v, hn::Set(F32(), kHalfFactor<F>));
    return hn::Mul(v, scale);
  };
  return {widen(hn::LowerHalf(U16(), halves)), widen(hn::UpperHalf(U16(), halves))};
}

HWY_INLINE void StoreTwo(const Two& x, float* p) {
  Store(x.a, p);
  Store(x.b, p + kLanes);
}
HWY_INLINE void StoreTwo(const Two& x, bf16* p) {
  const V16 a = hn::BitCast(D16(), RoundedBits(x.a)), b = hn::BitCast(D16(), RoundedBits(x.b));
  hn::StoreU(hn::ConcatOdd(D16(), b, a), D16(), &p->bits);
}

template <class F, typename S>
HWY_INLINE void DecodeRow(const uint8_t* codes, VF scale, S* x) {
  for (int64_t i = 0; i < kTileSize; i += 2 * kLanes) StoreTwo(DecodeTwo<F>(codes, i, scale), x + i);
}

// n <= kWidth numbers or codes, filled up with zeros in `room` if need be.
template <int64_t kWidth, typename T>
HWY_INLINE const T* WholeRow(const T* x, int64_t n, T* room) {
  if (HWY_LIKELY(n == kWidth)) return x;
  std::fill(std::copy_n(x, n, room), room + kWidth, T{});
  return room;
}

// Fetches the cache lines of p[0, n) ahead of their use: hardware does not foresee the jump from row to row. To L2: in L1, rows a
// power of two apart would drive each other out.
template <typename S>
HWY_INLINE void PrefetchRow(const S* p, int64_t n) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(S));
  for (int64_t i = 0; i < n; i += kLine) __builtin_prefetch(p + i, /*write=*/0, /*locality=*/2);
}

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HWY_SCALAR

#endif  // per-target include guard
