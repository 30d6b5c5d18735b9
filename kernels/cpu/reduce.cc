#include <algorithm>
#include <vector>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/fixed_point-inl.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// Sixteen sums in FP64, of the elements i with i % 16 = 0..15, joined in order: the same bits on every
// machine.
constexpr int64_t kSums = 16;

// lanes(i): FP32 elements i.. as Part32; element(i): one.
template <class Lanes, class Element>
HWY_INLINE double SumSquares(int64_t n, const Lanes& lanes, const Element& element) {
  const F64 d64;
  HWY_ALIGN double sums[kSums] = {};
  const int64_t whole = n / kSums * kSums;
  for (int64_t i = 0; i < whole; i += kSums) {
    for (int64_t j = 0; j < kSums; j += kLanes64) {
      const auto wide = hn::PromoteTo(d64, lanes(i + j));
      hn::Store(hn::MulAdd(wide, wide, hn::Load(d64, sums + j)), d64, sums + j);
    }
  }
  for (int64_t i = whole; i < n; ++i) sums[i - whole] += double{element(i)} * double{element(i)};
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

double SquaresOf(const SquaresSlice& slice, Range range) {
  if (slice.x.dtype == DType::kI64) {
    const int64_t* q = slice.x.as<int64_t>() + range.begin;
    return SumSquares(
        range.size(), [&](int64_t i) JEVONS_LANES { return PartFromFixedPoint(q + i, slice.unit); },
        [&](int64_t i) JEVONS_LANES { return ref::FromFixedPoint(q[i], slice.unit); });
  }
  const float* x = slice.x.as<float>() + range.begin;
  return SumSquares(
      range.size(), [&](int64_t i) JEVONS_LANES { return hn::LoadU(Part32(), x + i); },
      [&](int64_t i) JEVONS_LANES { return x[i]; });
}

// A value's 16 KiB stay in the cache while the others are added.
constexpr int64_t kJoined = 4096;

void JoinRange(const PartialSums& v, std::span<const std::pair<int, int>> order, Range range) {
  const auto value = [&](int i, int64_t at) { return v.values[static_cast<size_t>(i)] + at; };
  for (int64_t begin = range.begin; begin < range.end; begin += kJoined) {
    const int64_t n = std::min(kJoined, range.end - begin);
    for (const auto& [left, right] : order) {
      float *sum = value(left, begin), *other = value(right, begin);
      ForLanes(n, [&](int64_t i, int64_t count)
                      JEVONS_LANES { Store(hn::Add(Load(sum + i, count), Load(other + i, count)), sum + i, count); });
    }
    const float* root = value(0, begin);
    ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES {  // -0 + 0 = +0; everything else stays
      Store(hn::Add(Load(root + i, count), hn::Zero(F32())), v.sum + begin + i, count);
    });
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(SquaresOf);
HWY_EXPORT(JoinRange);

}  // namespace

void SumsOfSquares(const OpContext& ctx, std::span<const SquaresSlice> slices, int64_t chunk) {
  ArenaScope scope(*ctx.scratch);
  std::vector<int64_t> blocks, first;  // of each slice; its first one among those of all
  int64_t total = 0, elements = 0;
  for (const SquaresSlice& slice : slices) {
    first.push_back(total);
    total += blocks.emplace_back((slice.x.size() + kSquaresBlock - 1) / kSquaresBlock);
    elements += slice.x.size();
  }
  // Arenas hold no FP64; an I64 slice has its size and alignment.
  double* partial = static_cast<double*>(ctx.scratch->Allocate("reduce.squares", DType::kI64, {total}).data);
  if (ctx.stream.device == Device::kNone) return;
  const auto squares = &HWY_DYNAMIC_DISPATCH(SquaresOf);
  ParallelJobs(blocks, elements, [&](size_t s, Range range) {
    for (int64_t b = range.begin; b < range.end; ++b)
      partial[first[s] + b] = squares(slices[s], {b * kSquaresBlock, std::min((b + 1) * kSquaresBlock, slices[s].x.size())});
  });
  const int64_t of_chunk = chunk / kSquaresBlock;
  for (size_t s = 0; s < slices.size(); ++s) {
    double* sums = slices[s].sums;
    for (int64_t b = 0; b < blocks[s]; b += of_chunk)
      *sums++ = TreeSum({partial + first[s] + b, static_cast<size_t>(std::min(of_chunk, blocks[s] - b))});
  }
}

void JoinSums(const OpContext&, std::span<const PartialSums> vectors, std::span<const std::pair<int, int>> order) {
  const auto join = &HWY_DYNAMIC_DISPATCH(JoinRange);
  std::vector<int64_t> sizes;
  int64_t elements = 0;
  for (const PartialSums& v : vectors) elements += sizes.emplace_back(v.size);
  ParallelJobs(sizes, elements, [&](size_t i, Range range) { join(vectors[i], order, range); });
}

void Sum(const OpContext&, const Tensor& x, double* sum) {
  *sum = 0;
  for (int64_t i = 0; i < x.size(); ++i) *sum += double{x.as<float>()[i]};
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
