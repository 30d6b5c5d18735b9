#include "kernels/ops/rmsnorm.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

void RmsNorm(const OpContext& ctx, const Tensor& x, const Tensor& gamma, float eps, const Tensor& y, const Tensor& rstd) {
  ExpectReal("x", x);
  ExpectMatrix("x", x, x.dtype, x.rows(), gamma.size());
  ExpectMatrix("y", y, x.dtype, x.rows(), x.cols());
  ExpectVector("gamma", gamma, DType::kF32, x.cols());
  ExpectVector("rstd", rstd, DType::kF32, x.rows());
  if (x.size() > 0) Ops(ctx.stream).rms_norm(ctx, x, gamma, eps, y, rstd);
}

void RmsNormBackward(const OpContext& ctx, const RmsNormGrad& g) {
  const int64_t rows = g.x.rows(), cols = g.gamma.size();
  const DType dtype = g.x.dtype;
  ExpectReal("x", g.x);
  ExpectMatrix("x", g.x, dtype, rows, cols);
  ExpectMatrix("dy", g.dy, dtype, rows, cols);
  ExpectMatrix("dx", g.dx, dtype, rows, cols);
  ExpectVector("gamma", g.gamma, DType::kF32, cols);
  ExpectVector("rstd", g.rstd, DType::kF32, rows);
  ExpectVector("dgamma", g.dgamma, DType::kF32, cols);
  if (cols > 0) Ops(ctx.stream).rms_norm_backward(ctx, g);
}

}  // namespace jevons
