#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_xent.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// NaN anywhere in the row comes through: Exp keeps it, and so does the sum.
HWY_INLINE float MaxOf(const float* x, int64_t n) {
  VF largest = hn::Set(F32(), x[0]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) largest = hn::Max(largest, Load(x + i));
  float result = hn::GetLane(hn::MaxOfLanes(F32(), largest));
  for (; i < n; ++i) result = std::max(result, x[i]);
  return result;
}

// The sum over [0, n) of exp(x[i] - shift).
HWY_INLINE float SumExp(const float* x, float shift, int64_t n) {
  const VF offset = hn::Set(F32(), shift);
  const int64_t whole = n / kLanes * kLanes;
  float sum = SumLanes<1>(whole, [&](int64_t i, int64_t) JEVONS_LANES { return Exp(hn::Sub(Load(x + i), offset)); });
  if (whole < n) {  // the missing lanes become exp(-inf) = 0
    float part[kLanes];
    std::fill_n(part, kLanes, -std::numeric_limits<float>::infinity());
    std::copy(x + whole, x + n, part);
    sum += hn::GetLane(hn::SumOfLanes(F32(), Exp(hn::Sub(Load(part), offset))));
  }
  return sum;
}

// dx = scale * exp(x - shift) / sum; dx may be x.
template <typename S>
HWY_INLINE void ScaledSoftmax(const float* x, float shift, float factor, int64_t n, S* dx) {
  const VF offset = hn::Set(F32(), shift), f = hn::Set(F32(), factor);
  ForLanes(n, [&](int64_t i, int64_t count)
                  JEVONS_LANES { Store(hn::Mul(Exp(hn::Sub(Load(x + i, count), offset)), f), dx + i, count); });
}

// The gradient of the label's own logit is scale * (p - 1) with p - 1 taken before it is rounded to the
// stored type.
template <typename S>
HWY_INLINE void GradRow(const float* x, int32_t label, float scale, float shift, float sum, int64_t n, S* dx) {
  const float at_label = x[label];
  ScaledSoftmax(x, shift, scale / sum, n, dx);
  dx[label] = S(scale * (std::exp(at_label - shift) / sum - 1.0f));
}

void Rows(const Tensor& logits, const Tensor& labels, float scale, const Tensor& losses, const Tensor& dlogits, Range rows) {
  const int64_t vocab = logits.cols();
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float* x = logits.row<float>(r);
    const int32_t label = labels.as<int32_t>()[r];
    losses.as<float>()[r] = 0.0f;
    if (label < 0) {
      if (dlogits) Zero(dlogits.Rows(r, 1));
      continue;
    }
    const float shift = MaxOf(x, vocab), sum = SumExp(x, shift, vocab);
    losses.as<float>()[r] = std::log(sum) + (shift - x[label]);
    if (!dlogits) continue;
    if (dlogits.dtype == DType::kBF16) {
      GradRow(x, label, scale, shift, sum, vocab, dlogits.row<bf16>(r));
    } else {
      GradRow(x, label, scale, shift, sum, vocab, dlogits.row<float>(r));
    }
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(Rows);

}  // namespace

void CrossEntropyWithGrad(const OpContext&, const Tensor& logits, const Tensor& labels, float scale, const Tensor& losses,
                          const Tensor& dlogits) {
  const auto work = &HWY_DYNAMIC_DISPATCH(Rows);
  ParallelRanges(logits.rows(), logits.size(), [&](Range rows) { work(logits, labels, scale, losses, dlogits, rows); });
}

void CrossEntropy(const OpContext& ctx, const Tensor& logits, const Tensor& labels, const Tensor& losses) {
  cpu::CrossEntropyWithGrad(ctx, logits, labels, 0.0f, losses, Tensor());
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
