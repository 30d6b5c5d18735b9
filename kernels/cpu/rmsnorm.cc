#include <algorithm>
#include <cmath>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rmsnorm.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

template <typename S>
HWY_INLINE void ForwardRow(const S* x, const float* gamma, float eps, int64_t cols, S* y, float* rstd) {
  const float squares = SumLanes(cols, [&](int64_t i, int64_t n) JEVONS_LANES {
    const VF v = Load(x + i, n);
    return hn::Mul(v, v);
  });
  *rstd = 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps);
  const VF scale = hn::Set(F32(), *rstd);
  ForLanes(cols, [&](int64_t i, int64_t n)
                     JEVONS_LANES { Store(hn::Mul(hn::Mul(Load(x + i, n), scale), Load(gamma + i, n)), y + i, n); });
}

void Forward(const Tensor& x, const Tensor& gamma, float eps, const Tensor& y, const Tensor& rstd, Range rows) {
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    if (x.dtype == DType::kBF16) {
      ForwardRow(x.row<bf16>(r), gamma.as<float>(), eps, x.cols(), y.row<bf16>(r), rstd.as<float>() + r);
    } else {
      ForwardRow(x.row<float>(r), gamma.as<float>(), eps, x.cols(), y.row<float>(r), rstd.as<float>() + r);
    }
  }
}

// dgamma += the row's part.
template <typename S>
HWY_INLINE void BackwardRow(const S* dy, const S* x, const float* gamma, float rstd, WriteMode mode, int64_t cols, S* dx,
                            float* dgamma) {
  const VF scale = hn::Set(F32(), rstd);
  const float dot = SumLanes(cols, [&](int64_t i, int64_t n) JEVONS_LANES {
    return hn::Mul(hn::Mul(Load(dy + i, n), Load(gamma + i, n)), hn::Mul(Load(x + i, n), scale));
  });
  const VF mean = hn::Set(F32(), dot / static_cast<float>(cols));
  ForLanes(cols, [&](int64_t i, int64_t n) JEVONS_LANES {
    const VF xhat = hn::Mul(Load(x + i, n), scale), d = Load(dy + i, n);
    VF out = hn::Mul(scale, hn::NegMulAdd(xhat, mean, hn::Mul(d, Load(gamma + i, n))));
    if (mode == WriteMode::kAdd) out = hn::Add(Load(dx + i, n), out);
    Store(hn::MulAdd(d, xhat, Load(dgamma + i, n)), dgamma + i, n);
    Store(out, dx + i, n);
  });
}

void Backward(const RmsNormGrad& g, Range rows, float* dgamma) {
  const float* rstd = g.rstd.as<float>();
  const float* gamma = g.gamma.as<float>();
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    if (g.x.dtype == DType::kBF16) {
      BackwardRow(g.dy.row<bf16>(r), g.x.row<bf16>(r), gamma, rstd[r], g.dx_mode, g.x.cols(), g.dx.row<bf16>(r), dgamma);
    } else {
      BackwardRow(g.dy.row<float>(r), g.x.row<float>(r), gamma, rstd[r], g.dx_mode, g.x.cols(), g.dx.row<float>(r), dgamma);
    }
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

constexpr int64_t kGammaRows = 64;  // rows of one partial sum of dgamma

}  // namespace

void RmsNorm(const OpContext&, const Tensor& x, const Tensor& gamma, float eps, const Tensor& y, const Tensor& rstd) {
  const auto forward = &HWY_DYNAMIC_DISPATCH(Forward);
  ParallelRanges(x.rows(), x.size(), [&](Range rows) { forward(x, gamma, eps, y, rstd, rows); });
}

void RmsNormBackward(const OpContext& ctx, const RmsNormGrad& g) {
  const int64_t rows = g.x.rows(), cols = g.x.cols(), blocks = (rows + kGammaRows - 1) / kGammaRows;
  ArenaScope scope(*ctx.scratch);
  const Tensor partial = ctx.scratch->Allocate("rmsnorm.dgamma", DType::kF32, {blocks, cols});
  if (ctx.stream.device == Device::kNone) return;
  const auto backward = &HWY_DYNAMIC_DISPATCH(Backward);
  ParallelRanges(blocks, g.x.size(), [&](Range range) {
    for (int64_t b = range.begin; b < range.end; ++b) {
      std::fill_n(partial.row<float>(b), cols, 0.0f);
      backward(g, {b * kGammaRows, std::min(rows, (b + 1) * kGammaRows)}, partial.row<float>(b));
    }
  });
  float* dgamma = g.dgamma.as<float>();
  for (int64_t b = 1; b < blocks; ++b)
    for (int64_t i = 0; i < cols; ++i) partial.as<float>()[i] += partial.row<float>(b)[i];
  for (int64_t i = 0; i < cols; ++i) {
    const float sum = blocks > 0 ? partial.as<float>()[i] : 0.0f;
    dgamma[i] = g.dgamma_mode == WriteMode::kAdd ? dgamma[i] + sum : sum;
  }
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
