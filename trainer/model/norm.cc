#include "trainer/model/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ops/rmsnorm.h"
#include "kernels/tensor/device.h"

namespace jevons {

void NormForward(const LayerContext& ctx, const NormSite& site, const Tensor& x, const Weight& gamma, const Tensor& y,
                 const Tensor& rstd) {
  RmsNorm(ctx.ops, x, gamma.value, site.eps, y, rstd);
  if (ctx.non_finite == nullptr || ctx.non_finite->tensor != nullptr) return;
  std::vector<float> values(static_cast<size_t>(rstd.size()));
  Fetch(ctx.ops.stream, rstd.data, values.data(), rstd.bytes());
  const auto bad = [](float r) { return !std::isfinite(r) || r == 0; };  // NaN in the row, or Inf (then 1/rms is 0)
  if (std::any_of(values.begin(), values.end(), bad)) *ctx.non_finite = {site.layer, site.tensor};
}

void NormBackward(const LayerContext& ctx, const Tensor& dy, const Tensor& x, const Weight& gamma, const Tensor& rstd,
                  const Tensor& dx, WriteMode mode) {
  if (dx.rows() == 0) return;  // no micro-batch, no gradient
  const auto backward = [&](const Tensor& dgamma, WriteMode dgamma_mode) {
    RmsNormBackward(ctx.ops, {.dy = dy,
                              .x = x,
                              .gamma = gamma.value,
                              .rstd = rstd,
                              .dx = dx,
                              .dx_mode = mode,
                              .dgamma = dgamma,
                              .dgamma_mode = dgamma_mode});
  };
  if (gamma.grad.sum)
    Contribute(ctx.ops, gamma.grad, backward);
  else
    backward(Tensor(), WriteMode::kOverwrite);
}

}  // namespace jevons
