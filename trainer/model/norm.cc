#include "trainer/model/norm.h"

#include <cmath>

#include "kernels/ops/rmsnorm.h"

namespace jevons {

void NormForward(const LayerContext& ctx, const NormSite& site, const Tensor& x, const Weight& gamma, const Tensor& y,
                 const Tensor& rstd) {
  RmsNorm(ctx.ops, x, gamma.value, site.eps, y, rstd);
  if (ctx.non_finite == nullptr || ctx.non_finite->tensor != nullptr) return;
  const float* r = rstd.as<float>();
  for (int64_t t = 0; t < rstd.size(); ++t) {
    if (!std::isfinite(r[t]) || r[t] == 0) {  // NaN in the row, or Inf (then 1/rms is 0)
      *ctx.non_finite = {site.layer, site.tensor};
      return;
    }
  }
}

void NormBackward(const LayerContext& ctx, const Tensor& dy, const Tensor& x, const Weight& gamma, const Tensor& rstd,
                  const Tensor& dx, WriteMode mode) {
  if (dx.rows() == 0 && !gamma.grad.tensor) return;  // no micro-batch, no gradient
  RmsNormBackward(ctx.ops, {.dy = dy,
                            .x = x,
                            .gamma = gamma.value,
                            .rstd = rstd,
                            .dx = dx,
                            .dx_mode = mode,
                            .dgamma = gamma.grad.tensor,
                            .dgamma_mode = gamma.grad.mode});
}

}  // namespace jevons
