// Encode and Decode of kernels/fp8/formats.h, a vector at a time, for finite numbers resp. all codes; loads and stores of codes.
// Included once per instruction set.
#include "hwy/cache_control.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/fp8/quantize.h"

#if defined(JEVONS_KERNELS_CPU_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_QUANTIZE_INL_H_
#undef JEVONS_KERNELS_CPU_QUANTIZE_INL_H_
#else
#define JEVONS_KERNELS_CPU_QUANTIZE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {

using U32 = hn::RebindToUnsigned<F32>;
using V32 = hn::Vec<U32>;
using U8 = hn::Rebind<uint8_t, F32>;  // as many lanes of 8 bits

inline constexpr uint32_t kInfinityBits = 0x7F800000u;

HWY_INLINE V32 MagnitudeBits(VF v) { return hn::And(hn::BitCast(U32(), v), hn::Set(U32(), 0x7FFFFFFFu)); }

// The codes of finite numbers that round to F::kMax at most, one per lane, as what a tile's own scale leaves. The steps are those
// of Encode; bits from 23 on are not cleared.
template <class F>
HWY_INLINE V32 EncodeLanes(VF v) {
  using B = FormatBits<F>;
  const U32 d;
  const V32 magnitude = MagnitudeBits(v);
  const V32 exponent = hn::Max(hn::And(magnitude, hn::Set(d, kInfinityBits)), hn::Set(d, B::kMinNormal));
  const V32 offset = hn::Set(d, EncodingMagic<F>(0));
  const V32 magic = hn::Add(hn::Add(exponent, hn::ShiftRight<B::kShift>(exponent)), offset);
  const V32 sum = hn::BitCast(d, hn::Add(hn::BitCast(F32(), magnitude), hn::BitCast(F32(), magic)));
  constexpr int kSignShift = sizeof(typename F::Code) == 1 ? 24 : 20;
  return hn::OrAnd(sum, hn::ShiftRight<kSignShift>(hn::BitCast(d, v)), hn::Set(d, F::kSign));
}

template <class F>
HWY_INLINE VF DecodeLanes(V32 code) {
  using B = FormatBits<F>;
  const U32 d;
  const V32 magnitude = hn::And(code, hn::Set(d, F::kSign - 1u));
  const V32 normal =
      hn::Add(hn::ShiftLeft<B::kShift>(magnitude), hn::Set(d, static_cast<uint32_t>(127 - F::kBias) << 23));
  const VF small = hn::ConvertTo(F32(), hn::BitCast(hn::RebindToSigned<F32>(), magnitude));
  const V32 subnormal = hn::BitCast(d, hn::Mul(small, hn::Set(F32(), B::kSmallest)));
  V32 bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 1u << F::kMantissaBits)), subnormal, normal);
  bits = hn::IfThenElse(hn::Gt(magnitude, hn::Set(d, F::kMaxCode)), hn::Set(d, 0x7FC00000u), bits);
  if constexpr (F::kIeee)
    bits = hn::IfThenElse(hn::Eq(magnitude, hn::Set(d, F::kMaxCode + 1u)), hn::Set(d, kInfinityBits), bits);
  constexpr int kSignShift = sizeof(typename F::Code) == 1 ? 24 : 20;
  return hn::BitCast(F32(), hn::Or(bits, hn::ShiftLeft<kSignShift>(hn::And(code, hn::Set(d, F::kSign)))));
}

HWY_INLINE V32 LoadCodes(const uint8_t* p) { return hn::PromoteTo(U32(), hn::LoadU(U8(), p)); }
HWY_INLINE V32 LoadCodes(const uint16_t* p) { return hn::PromoteTo(U32(), hn::LoadU(U16(), p)); }
HWY_INLINE void StoreCodes(V32 codes, uint8_t* p) { hn::StoreU(hn::TruncateTo(U8(), codes), U8(), p); }
HWY_INLINE void StoreCodes(V32 codes, uint16_t* p) { hn::StoreU(hn::TruncateTo(U16(), codes), U16(), p); }

// The first `count` lanes; loads fill up with zeros.
template <typename Code>
HWY_INLINE V32 LoadCodes(const Code* p, int64_t count) {
  if (HWY_LIKELY(count == kLanes)) return LoadCodes(p);
  Code part[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) part[i] = p[i];
  return LoadCodes(part);
}
template <typename Code>
HWY_INLINE void StoreCodes(V32 codes, Code* p, int64_t count) {
  if (HWY_LIKELY(count == kLanes)) return StoreCodes(codes, p);
  Code part[kLanes];
  StoreCodes(codes, part);
  for (int64_t i = 0; i < count; ++i) p[i] = part[i];
}

// Fetches the cache lines of p[0, n) ahead of their use: hardware does not foresee the jump from row to row.
template <typename S>
HWY_INLINE void PrefetchRow(const S* p, int64_t n) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(S));
  for (int64_t i = 0; i < n; i += kLine) hwy::Prefetch(p + i);
}

// How many lanes hold a number that its scale makes zero. `scaled` is x times the inverse scale. Nothing saturates: no element
// exceeds its tile's amax.
template <class F>
HWY_INLINE int64_t CountLost(VF x, VF scaled) {
  const VF limit = hn::Set(F32(), FormatBits<F>::kSmallest / 2);  // a tie, to even: zero
  return static_cast<int64_t>(
      hn::CountTrue(F32(), hn::And(hn::Le(hn::Abs(scaled), limit), hn::Ne(x, hn::Zero(F32())))));
}

// A row of n <= 128 codes of E5M6, packed. `codes` has room for 128; those from n on are overwritten.
HWY_INLINE void PackRow(uint16_t* codes, int64_t n, uint8_t* bytes) {
  for (int64_t i = n; i % 8 != 0; ++i) codes[i] = 0;
  for (int64_t i = 0; i < n; i += 8) PackE5M6(codes + i, bytes + i / 8 * 12);
}
HWY_INLINE void UnpackRow(const uint8_t* bytes, int64_t n, uint16_t* codes) {
  for (int64_t i = 0; i < n; i += 8) UnpackE5M6(bytes + i / 8 * 12, codes + i);
}

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
