#include <vector>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/adamw.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/fixed_point-inl.h"
#include "kernels/cpu/parallel.h"
#include "kernels/ref/adamw.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// Operation for operation as ref::AdamW, so FP32 has its bits. grad(i, n): n lanes of the gradient.
template <typename S, class Grad>
HWY_INLINE void UpdateRange(const AdamWSlice& s, const Grad& grad, const ref::AdamWFactors& f, float keep, Range range) {
  float* master = s.master.as<float>();
  S *m = s.m.as<S>(), *v = s.v.as<S>();
  bf16* compute = s.compute ? s.compute.as<bf16>() : nullptr;
  const auto set = [](float x) JEVONS_LANES { return hn::Set(F32(), x); };
  ForLanes(range.size(), [&](int64_t offset, int64_t n) JEVONS_LANES {
    const int64_t i = range.begin + offset;
    const VF g = hn::Mul(hn::Add(grad(i, n), hn::Zero(F32())), set(f.grad_scale));
    const VF m1 = hn::Add(hn::Mul(set(f.beta1), Load(m + i, n)), hn::Mul(set(f.one_minus_beta1), g));
    const VF v1 = hn::Add(hn::Mul(set(f.beta2), Load(v + i, n)), hn::Mul(set(f.one_minus_beta2), hn::Mul(g, g)));
    const VF root = hn::Add(hn::Sqrt(hn::Mul(v1, set(f.inverse_c2))), set(f.eps));
    const VF step = hn::Div(hn::Mul(m1, set(f.inverse_c1)), root);
    const VF w = hn::Sub(hn::Mul(Load(master + i, n), set(keep)), hn::Mul(set(f.learning_rate), step));
    Store(m1, m + i, n);
    Store(v1, v + i, n);
    Store(w, master + i, n);
    if (compute) Store(w, compute + i, n);
  });
}

template <typename S>
HWY_INLINE void UpdateMoments(const AdamWSlice& s, double grad_unit, const ref::AdamWFactors& f, float keep, Range range) {
  if (s.grad.dtype == DType::kI64) {
    const int64_t* grad = s.grad.as<int64_t>();
    UpdateRange<S>(
        s, [&](int64_t i, int64_t n) JEVONS_LANES { return FromFixedPoint(grad + i, n, grad_unit); }, f, keep, range);
  } else {
    const float* grad = s.grad.as<float>();
    UpdateRange<S>(
        s, [&](int64_t i, int64_t n) JEVONS_LANES { return Load(grad + i, n); }, f, keep, range);
  }
}

void Update(const AdamWSlice& s, double grad_unit, const ref::AdamWFactors& f, float keep, Range range) {
  if (s.m.dtype == DType::kBF16) {
    UpdateMoments<bf16>(s, grad_unit, f, keep, range);
  } else {
    UpdateMoments<float>(s, grad_unit, f, keep, range);
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(Update);

}  // namespace

void AdamW(const OpContext&, const AdamWDesc& d, std::span<const AdamWSlice> slices) {
  const ref::AdamWFactors factors = ref::MakeAdamWFactors(d.learning_rate, d.beta1, d.beta2, d.eps, d.grad_scale, d.step);
  const auto update = &HWY_DYNAMIC_DISPATCH(Update);
  std::vector<int64_t> sizes;
  int64_t elements = 0;
  for (const AdamWSlice& s : slices) elements += sizes.emplace_back(s.master.size());
  ParallelJobs(sizes, elements, [&](size_t i, Range range) {
    update(slices[i], d.grad_unit, factors, ref::AdamWKeep(d.learning_rate, slices[i].decay), range);
  });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
