#include "kernels/ops/reduce.h"

#include <bit>

#include "kernels/ops/expect.h"
#include "kernels/ops/registry.h"

namespace jevons {

double SumOfSquares(const OpContext& ctx, const Tensor& x) {
  ExpectVector("x", x, DType::kF32, x.size());
  return x.size() == 0 ? 0.0 : Ops(ctx.stream).sum_of_squares(ctx, x);
}

double Sum(const OpContext& ctx, const Tensor& x) {
  ExpectVector("x", x, DType::kF32, x.size());
  return x.size() == 0 ? 0.0 : Ops(ctx.stream).sum(ctx, x);
}

double TreeSum(std::span<const double> values) {
  if (values.empty()) return 0.0;
  if (values.size() == 1) return values[0];
  const size_t left =
      std::bit_ceil(values.size()) / 2;  // the children of the root cover [0, left) and [left, n)
  return TreeSum(values.first(left)) + TreeSum(values.subspan(left));
}

}  // namespace jevons
