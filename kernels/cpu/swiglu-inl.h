// A row of SwiGLU. Included once per instruction set.
#include "kernels/cpu/simd-inl.h"

#if defined(JEVONS_KERNELS_CPU_SWIGLU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_SWIGLU_INL_H_
#undef JEVONS_KERNELS_CPU_SWIGLU_INL_H_
#else
#define JEVONS_KERNELS_CPU_SWIGLU_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {

template <typename S>
HWY_INLINE void SwiGluRow(const S* gate, const S* up, float weight, int64_t inner, S* y) {
  const VF w = hn::Set(F32(), weight);
  ForLanes(inner, [&](int64_t i, int64_t n) JEVONS_LANES {
    const VF g = Load(gate + i, n);
    Store(hn::Mul(hn::Mul(hn::Mul(g, Sigmoid(g)), Load(up + i, n)), w), y + i, n);
  });
}

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
