// Encode and Decode of kernels/fp8/formats.h, a vector at a time, for finite numbers resp. all codes; loads and stores of codes.
// Included once per instruction set.
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

// The codes of finite numbers, one per lane; the steps are those of Encode.
template <class F>
HWY_INLINE V32 EncodeLanes(VF v) {
  using B = FormatBits<F>;
  const U32 d;
  const V32 clamped = hn::Min(MagnitudeBits(v), hn::Set(d, B::kMax));
  const V32 exponent = hn::Max(hn::And(clamped, hn::Set(d, kInfinityBits)), hn::Set(d, B::kMinNormal));
  const V32 magic = hn::Add(exponent, hn::Set(d, static_cast<uint32_t>(B::kShift) << 23));
  const V32 sum = hn::BitCast(d, hn::Add(hn::BitCast(F32(), clamped), hn::BitCast(F32(), magic)));
  const V32 high = hn::ShiftRight<B::kShift>(hn::Sub(exponent, hn::Set(d, B::kMinNormal)));
  constexpr int kSignShift = sizeof(typename F::Code) == 1 ? 24 : 20;
  const V32 sign = hn::And(hn::ShiftRight<kSignShift>(hn::BitCast(d, v)), hn::Set(d, F::kSign));
  return hn::Or(hn::Add(hn::Sub(sum, magic), high), sign);
}

template <class F>
HWY_INLINE VF DecodeLanes(V32 code) {
  using B = FormatBits<F>;
  const U32 d;
  const V32 magnitude = hn::And(code, hn::Set(d, F::kSign - 1u));
  const V32 normal = hn::Add(hn::ShiftLeft<B::kShift>(magnitude), hn::Set(d, static_cast<uint32_t>(127 - F::kBias) << 23));
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
HWY_INLINE void StoreCodes(V32 codes, uint8_t* p) { hn::StoreU(hn::U8FromU32(codes), U8(), p); }
HWY_INLINE void StoreCodes(V32 codes, uint16_t* p) {
  hn::StoreU(hn::DemoteTo(U16(), hn::BitCast(hn::RebindToSigned<F32>(), codes)), U16(), p);
}

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

// Adds to `stats` what lanes lost: x, x * inverse, and its code. Lanes beyond the end are zero and lose nothing.
template <class F>
HWY_INLINE void CountLanes(VF x, VF scaled, V32 codes, QuantStats& stats) {
  constexpr float kLimit = F::kMax + (F::kMax - Decode<F>(static_cast<typename F::Code>(F::kMaxCode - 1))) / 2;
  const U32 d;
  stats.saturated += static_cast<int64_t>(hn::CountTrue(F32(), hn::Gt(hn::Abs(scaled), hn::Set(F32(), kLimit))));
  const auto vanished = hn::Eq(hn::And(codes, hn::Set(d, F::kSign - 1u)), hn::Zero(d));
  stats.underflowed += static_cast<int64_t>(hn::CountTrue(d, hn::And(vanished, hn::Ne(MagnitudeBits(x), hn::Zero(d)))));
}

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
