// FP32 to integers of 64 bits in fixed point and back, operation by operation with the bits of kernels/ref/fixed_point.h. Included
// once per instruction set.
#include <algorithm>
#include <bit>

#include "kernels/cpu/simd-inl.h"
#include "kernels/ops/fixed_point.h"
#include "kernels/ref/fixed_point.h"

#if defined(JEVONS_KERNELS_CPU_FIXED_POINT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_FIXED_POINT_INL_H_
#undef JEVONS_KERNELS_CPU_FIXED_POINT_INL_H_
#else
#define JEVONS_KERNELS_CPU_FIXED_POINT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {

using F64 = hn::ScalableTag<double>;
using I64 = hn::RebindToSigned<F64>;
using Part32 = hn::Rebind<float, F64>;  // as many lanes of FP32
inline constexpr int64_t kLanes64 = static_cast<int64_t>(hn::MaxLanes(F64()));

// sum[i] = [sum[i] +] value(0)[i] + .. + value(count - 1)[i] in fixed point; returns whether no value was refused.
//
// The integer nearest to |v| <= 2^51 is found in the lowest bits of v + 1.5 * 2^52: one fused multiply-add, whose product is exact.
// A block with larger values, or such that may be beyond the limit, goes the reference's way; gradients rarely have any.
template <class Value>
HWY_INLINE bool AddFixedPoint(const FixedPoint& format, int64_t count, const Value& value, bool add, int64_t n, int64_t* sum) {
  constexpr int64_t kBlock = 4 * kLanes64;
  const F64 d64;
  const I64 di;
  const double scale = 1 / format.unit();
  const auto vscale = hn::Set(d64, scale), magic = hn::Set(d64, 0x1.8p52);
  // Half of what would do, which no rounding brings above it.
  const VF small = hn::Set(F32(), static_cast<float>(std::min(format.limit, 0x1p51) / 2 * format.unit()));
  const auto before = [&](int64_t i) JEVONS_LANES { return add ? hn::LoadU(di, sum + i) : hn::Zero(di); };
  const auto all_small = [&](const float* x) JEVONS_LANES {
    auto good = hn::Le(hn::Abs(Load(x)), small);  // NaN is not
    for (int64_t j = kLanes; j < kBlock; j += kLanes) good = hn::And(good, hn::Le(hn::Abs(Load(x + j)), small));
    return hn::AllTrue(F32(), good);
  };
  const auto shifted = [&](const float* x) JEVONS_LANES {  // in the lowest bits
    return hn::BitCast(di, hn::MulAdd(hn::PromoteTo(d64, hn::LoadU(Part32(), x)), vscale, magic));
  };
  // What the magics leave in a sum, which may wrap.
  const auto excess = hn::Set(di, static_cast<int64_t>(static_cast<uint64_t>(count) * std::bit_cast<uint64_t>(0x1.8p52)));
  bool within = true;
  const auto one_by_one = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t q, total = add ? sum[i] : 0;
      for (int64_t k = 0; k < count; ++k) {
        within &= ref::ToFixedPoint(value(k)[i], scale, format.limit, q);
        total = ref::AddWrapping(total, q);
      }
      sum[i] = total;
    }
  };
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    auto s0 = before(i), s1 = before(i + kLanes64), s2 = before(i + 2 * kLanes64), s3 = before(i + 3 * kLanes64);
    int64_t k = 0;
    for (; k < count; ++k) {
      const float* x = value(k) + i;
      if (HWY_UNLIKELY(!all_small(x))) break;
      s0 = hn::Add(s0, shifted(x));
      s1 = hn::Add(s1, shifted(x + kLanes64));
      s2 = hn::Add(s2, shifted(x + 2 * kLanes64));
      s3 = hn::Add(s3, shifted(x + 3 * kLanes64));
    }
    if (HWY_UNLIKELY(k < count)) {
      one_by_one(i, i + kBlock);
      continue;
    }
    hn::StoreU(hn::Sub(s0, excess), di, sum + i);
    hn::StoreU(hn::Sub(s1, excess), di, sum + i + kLanes64);
    hn::StoreU(hn::Sub(s2, excess), di, sum + i + 2 * kLanes64);
    hn::StoreU(hn::Sub(s3, excess), di, sum + i + 3 * kLanes64);
  }
  one_by_one(i, n);
  return within;
}

// FP32 numbers out of fixed point: float(double(q) * unit).
HWY_INLINE hn::Vec<Part32> PartFromFixedPoint(const int64_t* q, double unit) {
  const F64 d64;
  return hn::DemoteTo(Part32(), hn::Mul(hn::ConvertTo(d64, hn::LoadU(I64(), q)), hn::Set(d64, unit)));
}
HWY_INLINE VF FromFixedPoint(const int64_t* q, double unit) {
#if HWY_TARGET == HWY_SCALAR
  return PartFromFixedPoint(q, unit);
#else
  return hn::Combine(F32(), PartFromFixedPoint(q + kLanes64, unit), PartFromFixedPoint(q, unit));
#endif
}
// The first `count` lanes, the others zero.
HWY_INLINE VF FromFixedPoint(const int64_t* q, int64_t count, double unit) {
  if (HWY_LIKELY(count == kLanes)) return FromFixedPoint(q, unit);
  int64_t part[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) part[i] = q[i];
  return FromFixedPoint(part, unit);
}

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
