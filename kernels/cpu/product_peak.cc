#include "kernels/cpu/product_peak.h"

#include <cstdint>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/fma_peak.h"
#include "kernels/cpu/gemm_impl.h"
#include "kernels/cpu/peak_rate.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // as in gemm_tile.cc
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/product_peak.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

using PeakLoop = double (*)(int64_t steps, float* sink);

#if HWY_TARGET <= HWY_AVX3  // or better
// `steps` rounds of 12 independent vdpbf16ps, as FmaLoop of fma_peak.cc; returns the FLOP done.
double DotLoop(int64_t steps, float* sink) {
  constexpr int kChains = 12;
  const D d;
  const V x = hn::Set(d, sink[0]), y = hn::Set(d, sink[1]);
  V sums[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sums[c] = hn::Set(d, static_cast<float>(c));
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = DotWords::MulAdd(x, y, sums[c]);
  }
  V sum = sums[0];
  for (int c = 1; c < kChains; ++c) sum = hn::Add(sum, sums[c]);
  sink[2] = hn::GetLane(hn::SumOfLanes(d, sum));  // keeps the compiler from leaving the work out
  return static_cast<double>(steps) * kChains * 2 * DotWords::kTerms * kLanes;
}
PeakLoop DotPeakLoop() { return DotLoop; }
#else
PeakLoop DotPeakLoop() { return nullptr; }
#endif

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons {
namespace cpu {
namespace {

HWY_EXPORT(DotPeakLoop);

double MeasureDotPeak(int threads) {
  return PeakRate(threads, [] {
    float sink[3] = {0.999f, 0.001f, 0.0f};
    return HWY_DYNAMIC_DISPATCH(DotPeakLoop)()(200000, sink);
  });
}

}  // namespace
}  // namespace cpu

double MeasureProductPeak(DType in, int threads) {
  const cpu::GemmImpl* const impl = &cpu::ChosenGemmImpl(in);
  if (impl == &cpu::kGemmAmx) return cpu::MeasureAmxPeak(threads);
  return impl == &cpu::kGemmDot ? cpu::MeasureDotPeak(threads) : MeasureFmaPeak(threads);
}

}  // namespace jevons
#endif  // HWY_ONCE
