#include "kernels/cpu/fma_peak.h"

#include <cstdint>

#include "kernels/cpu/peak_rate.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fma_peak.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace jevons {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Runs `steps` rounds of 12 independent multiply-adds: more than latency times issue width of any CPU we
// know. Returns the FLOP done; `sink` keeps the compiler from leaving the work out.
double FmaLoop(int64_t steps, float* sink) {
  const HWY_FULL(float) d;
  const auto x = hn::Set(d, sink[0]);
  const auto y = hn::Set(d, sink[1]);
  // Different starting values, lest the compiler see twelve times the same sum.
  auto s0 = hn::Iota(d, 0), s1 = hn::Iota(d, 1), s2 = hn::Iota(d, 2), s3 = hn::Iota(d, 3), s4 = hn::Iota(d, 4);
  auto s5 = hn::Iota(d, 5), s6 = hn::Iota(d, 6), s7 = hn::Iota(d, 7), s8 = hn::Iota(d, 8), s9 = hn::Iota(d, 9);
  auto s10 = hn::Iota(d, 10), s11 = hn::Iota(d, 11);
  for (int64_t i = 0; i < steps; ++i) {
    s0 = hn::MulAdd(s0, x, y), s1 = hn::MulAdd(s1, x, y), s2 = hn::MulAdd(s2, x, y), s3 = hn::MulAdd(s3, x, y);
    s4 = hn::MulAdd(s4, x, y), s5 = hn::MulAdd(s5, x, y), s6 = hn::MulAdd(s6, x, y), s7 = hn::MulAdd(s7, x, y);
    s8 = hn::MulAdd(s8, x, y), s9 = hn::MulAdd(s9, x, y), s10 = hn::MulAdd(s10, x, y), s11 = hn::MulAdd(s11, x, y);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), hn::Add(hn::Add(s4, s5), hn::Add(s6, s7)));
  const auto rest = hn::Add(hn::Add(s8, s9), hn::Add(s10, s11));
  sink[2] = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, rest)));
  return static_cast<double>(steps) * 12 * 2 * hn::Lanes(d);
}

}  // namespace HWY_NAMESPACE
}  // namespace jevons
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons {

HWY_EXPORT(FmaLoop);

double MeasureFmaPeak(int threads) {
  return cpu::PeakRate(threads, [] {
    float sink[3] = {0.999f, 0.001f, 0.0f};
    return HWY_DYNAMIC_DISPATCH(FmaLoop)(200000, sink);
  });
}

}  // namespace jevons
#endif  // HWY_ONCE
