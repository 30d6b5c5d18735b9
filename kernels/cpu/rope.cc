#include <algorithm>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

HWY_INLINE void LoadPairs(const float* p, VF& even, VF& odd) { hn::LoadInterleaved2(F32(), p, even, odd); }
HWY_INLINE void LoadPairs(const bf16* p, VF& even, VF& odd) {
  hn::Vec<U16> a, b;
  hn::LoadInterleaved2(U16(), &p->bits, a, b);
  even = Widen(a);
  odd = Widen(b);
}
HWY_INLINE void StorePairs(VF even, VF odd, float* p) { hn::StoreInterleaved2(even, odd, F32(), p); }
HWY_INLINE void StorePairs(VF even, VF odd, bf16* p) { hn::StoreInterleaved2(Narrow(even), Narrow(odd), U16(), &p->bits); }

// kLanes pairs at p. Products and sums are rounded one by one, so the bits are those of the scalar form.
template <typename S>
HWY_INLINE void TurnPairs(VF cos, VF sin, S* p) {
  VF even, odd;
  LoadPairs(p, even, odd);
  StorePairs(hn::Sub(hn::Mul(even, cos), hn::Mul(odd, sin)), hn::Add(hn::Mul(even, sin), hn::Mul(odd, cos)), p);
}

template <typename S>
HWY_INLINE void TurnRow(const RopeDesc& d, const float* cos, const float* sin, int direction, S* x) {
  const VF sign = hn::Set(F32(), static_cast<float>(direction));
  ForLanes(d.cos.cols(), [&](int64_t i, int64_t n) JEVONS_LANES {
    const VF c = Load(cos + i, n), s = hn::Mul(Load(sin + i, n), sign);
    for (int64_t h = 0; h < d.heads; ++h) {
      S* pairs = x + h * d.head_dim + d.offset + 2 * i;
      if (n == kLanes) {
        TurnPairs(c, s, pairs);
      } else {
        S part[2 * kLanes] = {};
        std::copy_n(pairs, 2 * n, part);
        TurnPairs(c, s, part);
        std::copy_n(part, 2 * n, pairs);
      }
    }
  });
}

void Turn(const RopeDesc& d, int direction, Range rows) {
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const float* cos = d.cos.row<float>(t % d.sequence_length);
    const float* sin = d.sin.row<float>(t % d.sequence_length);
    if (d.x.dtype == DType::kBF16) {
      TurnRow(d, cos, sin, direction, d.x.row<bf16>(t));
    } else {
      TurnRow(d, cos, sin, direction, d.x.row<float>(t));
    }
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(Turn);

void TurnAll(const RopeDesc& d, int direction) {
  const auto turn = &HWY_DYNAMIC_DISPATCH(Turn);
  ParallelRanges(d.x.rows(), d.x.rows() * d.heads * d.cos.cols(), [&](Range rows) { turn(d, direction, rows); });
}

}  // namespace

void Rope(const OpContext&, const RopeDesc& desc) { TurnAll(desc, 1); }
void RopeBackward(const OpContext&, const RopeDesc& desc) { TurnAll(desc, -1); }

}  // namespace jevons::cpu
#endif  // HWY_ONCE
