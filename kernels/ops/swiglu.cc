#include "kernels/ops/swiglu.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

void SwiGlu(const OpContext& ctx, const Tensor& gate_up, const Tensor& weight, const Tensor& y) {
  ExpectReal("y", y);
  ExpectMatrix("y", y, y.dtype, y.rows(), y.cols());
  ExpectMatrix("gate_up", gate_up, y.dtype, y.rows(), 2 * y.cols());
  if (weight) ExpectVector("weight", weight, DType::kF32, y.rows());
  if (y.size() > 0) Ops(ctx.stream).swiglu(ctx, gate_up, weight, y);
}

void SwiGluBackward(const OpContext& ctx, const SwiGluGrad& g) {
  const int64_t rows = g.dy.rows(), inner = g.dy.cols();
  const DType dtype = g.dy.dtype;
  ExpectReal("dy", g.dy);
  ExpectMatrix("dy", g.dy, dtype, rows, inner);
  ExpectMatrix("gate_up", g.gate_up, dtype, rows, 2 * inner);
  ExpectMatrix("dgate_up", g.dgate_up, dtype, rows, 2 * inner);
  JEVONS_CHECK(rows == 0 || static_cast<bool>(g.weight) == static_cast<bool>(g.dweight), "weight and dweight come together");
  if (g.weight) {
    ExpectVector("weight", g.weight, DType::kF32, rows);
    ExpectVector("dweight", g.dweight, DType::kF32, rows);
  }
  if (rows > 0) Ops(ctx.stream).swiglu_backward(ctx, g);
}

}  // namespace jevons
