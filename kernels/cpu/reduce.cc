#include "kernels/cpu/targets.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cc"
#include "hwy/foreach_target.h"

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// Sixteen sums in FP64, of the elements i with i % 16 = 0..15, joined in order: the same bits on every
// machine.
constexpr int64_t kSums = 16;

double SquaresOf(const float* x, int64_t n) {
  const hn::ScalableTag<double> d64;
  const hn::Rebind<float, decltype(d64)> d32;
  constexpr int64_t kWide = static_cast<int64_t>(hn::MaxLanes(d64));
  HWY_ALIGN double sums[kSums] = {};
  const int64_t whole = n / kSums * kSums;
  for (int64_t i = 0; i < whole; i += kSums) {
    for (int64_t j = 0; j < kSums; j += kWide) {
      const auto wide = hn::PromoteTo(d64, hn::LoadU(d32, x + i + j));
      hn::Store(hn::MulAdd(wide, wide, hn::Load(d64, sums + j)), d64, sums + j);
    }
  }
  for (int64_t i = whole; i < n; ++i) sums[i - whole] += double{x[i]} * double{x[i]};
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(SquaresOf);

}  // namespace

void SumsOfSquares(const OpContext& ctx, const Tensor& x, int64_t chunk, double* sums) {
  ArenaScope scope(*ctx.scratch);
  const int64_t n = x.size(), blocks = (n + kSquaresBlock - 1) / kSquaresBlock, of_chunk = chunk / kSquaresBlock;
  // Arenas hold no FP64; an I64 slice has its size and alignment.
  double* partial = static_cast<double*>(ctx.scratch->Allocate("reduce.squares", DType::kI64, {blocks}).data);
  const auto squares = &HWY_DYNAMIC_DISPATCH(SquaresOf);
  ParallelRanges(blocks, n, [&](Range range) {
    for (int64_t b = range.begin; b < range.end; ++b)
      partial[b] = squares(x.as<float>() + b * kSquaresBlock, std::min(kSquaresBlock, n - b * kSquaresBlock));
  });
  for (int64_t first = 0; first < blocks; first += of_chunk)
    *sums++ = TreeSum({partial + first, static_cast<size_t>(std::min(of_chunk, blocks - first))});
}

void Sum(const OpContext&, const Tensor& x, double* sum) {
  *sum = 0;
  for (int64_t i = 0; i < x.size(); ++i) *sum += double{x.as<float>()[i]};
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
