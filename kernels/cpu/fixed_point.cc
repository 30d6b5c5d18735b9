#include <atomic>
#include <vector>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fixed_point.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/fixed_point-inl.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

bool AddRange(const FixedPoint& format, const FixedPointSum& s, Range range) {
  return AddFixedPoint(
      format, static_cast<int64_t>(s.values.size()),
      [&](int64_t k) JEVONS_LANES { return s.values[static_cast<size_t>(k)].as<float>() + range.begin; },
      s.mode == WriteMode::kAdd, range.size(), s.sum.as<int64_t>() + range.begin);
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(AddRange);

}  // namespace

void AddFixedPoint(const OpContext&, const FixedPoint& format, std::span<const FixedPointSum> sums) {
  const auto add = &HWY_DYNAMIC_DISPATCH(AddRange);
  std::vector<int64_t> sizes;
  int64_t elements = 0;
  for (const FixedPointSum& s : sums) elements += sizes.emplace_back(s.sum.size());
  ParallelJobs(sizes, elements, [&](size_t i, Range range) {
    if (!add(format, sums[i], range)) std::atomic_ref(*sums[i].flag).store(1, std::memory_order_relaxed);
  });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
