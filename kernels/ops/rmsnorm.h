// RMSNorm: y = x * rstd * gamma, rstd = 1 / sqrt(mean(x^2) + eps), computed in FP32. x, y: [T,H] FP32 or BF16 (one type);
// gamma: [H] FP32.
#ifndef JEVONS_KERNELS_OPS_RMSNORM_H_
#define JEVONS_KERNELS_OPS_RMSNORM_H_

#include "kernels/ops/context.h"

namespace jevons {

// rstd: [T] FP32, kept for the backward pass.
void RmsNorm(const OpContext& ctx, const Tensor& x, const Tensor& gamma, float eps, const Tensor& y, const Tensor& rstd);

struct RmsNormGrad {
  Tensor dy, x, gamma, rstd;                  // [T,H], [T,H], [H], [T]
  Tensor dx;                                  // [T,H]
  WriteMode dx_mode = WriteMode::kOverwrite;  // kAdd joins the residual stream's gradient
  Tensor dgamma;                              // [H] FP32; rows summed in an order fixed by T alone
  WriteMode dgamma_mode = WriteMode::kOverwrite;
};
void RmsNormBackward(const OpContext& ctx, const RmsNormGrad& grad);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_RMSNORM_H_
