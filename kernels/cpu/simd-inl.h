// Vectors of FP32 over memory of FP32 or BF16: loads widen, stores round once. Included once per instruction
// set.
#include "hwy/highway.h"
#include "kernels/tensor/tensor.h"

#if defined(JEVONS_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_SIMD_INL_H_
#undef JEVONS_KERNELS_CPU_SIMD_INL_H_
#else
#define JEVONS_KERNELS_CPU_SIMD_INL_H_
#endif

// On the body of a loop over lanes: compiled for the loop's instruction set and into the loop.
#undef JEVONS_LANES
#define JEVONS_LANES HWY_ATTR __attribute__((always_inline))

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using VF = hn::Vec<F32>;
inline constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(F32()));

using U16 = hn::Rebind<uint16_t, F32>;  // as many lanes of 16 bits

HWY_INLINE VF Widen(hn::Vec<U16> bits) {
  const hn::RebindToUnsigned<F32> d32;
  return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

// The bits of v whose upper half is v in BF16. To nearest even; NaN keeps its upper half, made quiet (as bf16's constructor).
HWY_INLINE hn::Vec<hn::RebindToUnsigned<F32>> RoundedBits(VF v) {
  const hn::RebindToUnsigned<F32> d32;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(d32, 0x7FFFu)), odd);
  const auto quiet = hn::Or(bits, hn::Set(d32, 0x400000u));
  return hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded);
}
HWY_INLINE hn::Vec<U16> Narrow(VF v) { return hn::TruncateTo(U16(), hn::ShiftRight<16>(RoundedBits(v))); }

// The lanes as they would be after a visit to memory as S.
template <typename S>
HWY_INLINE VF RoundedTo(VF v) {
  if constexpr (sizeof(S) == sizeof(float)) return v;
  return hn::BitCast(F32(), hn::And(RoundedBits(v), hn::Set(hn::RebindToUnsigned<F32>(), 0xFFFF0000u)));
}

HWY_INLINE VF Load(const float* p) { return hn::LoadU(F32(), p); }
HWY_INLINE VF Load(const bf16* p) { return Widen(hn::LoadU(U16(), &p->bits)); }
HWY_INLINE void Store(VF v, float* p) { hn::StoreU(v, F32(), p); }
HWY_INLINE void Store(VF v, bf16* p) { hn::StoreU(Narrow(v), U16(), &p->bits); }

// The first `count` lanes, the others zero; and the reverse. count is kLanes but at the end of a row.
template <typename S>
HWY_INLINE VF Load(const S* p, int64_t count) {
  if (HWY_LIKELY(count == kLanes)) return Load(p);
  S part[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) part[i] = p[i];
  return Load(part);
}
template <typename S>
HWY_INLINE void Store(VF v, S* p, int64_t count) {
  if (HWY_LIKELY(count == kLanes)) return Store(v, p);
  S part[kLanes];
  Store(v, part);
  for (int64_t i = 0; i < count; ++i) p[i] = part[i];
}

// body(i, count) for each vector of [0, n): count = kLanes but in the last.
template <class Body>
HWY_INLINE void ForLanes(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}

// The sum of term(i, count) over [0, n), in an order that depends on n alone. Lanes beyond n must be zero.
// Four running sums hide the latency of an addition; a long term hides it by itself and takes one.
template <int kSums = 4, class Term>
HWY_INLINE float SumLanes(int64_t n, const Term& term) {
  VF sum[4] = {hn::Zero(F32()), hn::Zero(F32()), hn::Zero(F32()), hn::Zero(F32())};
  int64_t i = 0;
  if constexpr (kSums == 4) {
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
      sum[0] = hn::Add(sum[0], term(i, kLanes));
      sum[1] = hn::Add(sum[1], term(i + kLanes, kLanes));
      sum[2] = hn::Add(sum[2], term(i + 2 * kLanes, kLanes));
      sum[3] = hn::Add(sum[3], term(i + 3 * kLanes, kLanes));
    }
  }
  for (; i + kLanes <= n; i += kLanes) sum[0] = hn::Add(sum[0], term(i, kLanes));
  if (i < n) sum[1] = hn::Add(sum[1], term(i, n - i));
  const VF all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  return hn::GetLane(hn::SumOfLanes(F32(), all));
}

// exp within 2 units in the last place; 0 where it would be subnormal, infinity from 88.8 on; NaN stays NaN,
// which Highway's own Exp would turn into 0. x = n ln 2 + r with |r| <= ln 2 / 2; the polynomial of exp(r) is
// SLEEF's.
HWY_INLINE VF Exp(VF x) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const VF clamped = hn::Min(hn::Set(d, 89.0f), x);
  const VF magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, found in the lowest bits
  const VF shifted = hn::MulAdd(clamped, hn::Set(d, 1.442695041f), magic);
  const VF n = hn::Sub(shifted, magic);
  const VF reduced = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), clamped);
  const VF r = hn::NegMulAdd(n, hn::Set(d, 1.428606765330187045e-6f), reduced);
  VF p = hn::MulAdd(r, hn::Set(d, 0.000198527617612853646278381f), hn::Set(d, 0.00139304355252534151077271f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.00833336077630519866943359f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.0416664853692054748535156f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.166666671633720397949219f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const VF power = hn::BitCast(d, hn::Add(exponent, hn::Set(di, 0x3F800000)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0f)), hn::Mul(p, power));
}

// 1 / (1 + exp(-x)) without overflow.
HWY_INLINE VF Sigmoid(VF x) {
  const VF one = hn::Set(F32(), 1.0f);
  const VF e = Exp(hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(F32())), e, one), hn::Add(one, e));
}

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
