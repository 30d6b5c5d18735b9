#include "kernels/cpu/targets.h"

#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/adamw.cc"
#include "hwy/foreach_target.h"

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/ref/adamw.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// Operation for operation as ref::AdamW, so FP32 has its bits.
template <typename S>
HWY_INLINE void UpdateRange(const AdamWSlice& s, const ref::AdamWFactors& f, float keep, Range range) {
  const float* grad = s.grad.as<float>();
  float* master = s.master.as<float>();
  S *m = s.m.as<S>(), *v = s.v.as<S>();
  bf16* compute = s.compute ? s.compute.as<bf16>() : nullptr;
  const auto set = [](float x) JEVONS_LANES { return hn::Set(F32(), x); };
  ForLanes(range.size(), [&](int64_t offset, int64_t n) JEVONS_LANES {
    const int64_t i = range.begin + offset;
    const VF g = hn::Mul(hn::Add(Load(grad + i, n), hn::Zero(F32())), set(f.grad_scale));
    const VF m1 = hn::Add(hn::Mul(set(f.beta1), Load(m + i, n)), hn::Mul(set(f.one_minus_beta1), g));
    const VF v1 =
        hn::Add(hn::Mul(set(f.beta2), Load(v + i, n)), hn::Mul(set(f.one_minus_beta2), hn::Mul(g, g)));
    const VF root = hn::Add(hn::Sqrt(hn::Mul(v1, set(f.inverse_c2))), set(f.eps));
    const VF step = hn::Div(hn::Mul(m1, set(f.inverse_c1)), root);
    const VF w = hn::Sub(hn::Mul(Load(master + i, n), set(keep)), hn::Mul(set(f.learning_rate), step));
    Store(m1, m + i, n);
    Store(v1, v + i, n);
    Store(w, master + i, n);
    if (compute) Store(w, compute + i, n);
  });
}

void Update(const AdamWSlice& s, const ref::AdamWFactors& f, float keep, Range range) {
  if (s.m.dtype == DType::kBF16) {
    UpdateRange<bf16>(s, f, keep, range);
  } else {
    UpdateRange<float>(s, f, keep, range);
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
  const ref::AdamWFactors factors =
      ref::MakeAdamWFactors(d.learning_rate, d.beta1, d.beta2, d.eps, d.grad_scale, d.step);
  const auto update = &HWY_DYNAMIC_DISPATCH(Update);
  std::vector<int64_t> sizes;
  int64_t elements = 0;
  for (const AdamWSlice& s : slices) elements += sizes.emplace_back(s.master.size());
  ParallelJobs(sizes, elements, [&](size_t i, Range range) {
    update(slices[i], factors, ref::AdamWKeep(d.learning_rate, slices[i].decay), range);
  });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
