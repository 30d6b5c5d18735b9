#include "kernels/ops/reduce.h"

#include <bit>

#include "kernels/ops/expect.h"
#include "kernels/ops/registry.h"

namespace jevons {

void SumsOfSquares(const OpContext& ctx, const Tensor& x, int64_t chunk, double* sums) {
  ExpectVector("x", x, DType::kF32, x.size());
  JEVONS_CHECK(chunk > 0 && chunk % kSquaresBlock == 0, "chunks of %lld elements", static_cast<long long>(chunk));
  if (x.size() > 0) Ops(ctx.stream).sums_of_squares(ctx, x, chunk, sums);
}

void Sum(const OpContext& ctx, const Tensor& x, double* sum) {
  ExpectVector("x", x, DType::kF32, x.size());
  Ops(ctx.stream).sum(ctx, x, sum);
}

double TreeSum(std::span<const double> values) {
  if (values.empty()) return 0.0;
  if (values.size() == 1) return values[0];
  const size_t left =
      std::bit_ceil(values.size()) / 2;  // the children of the root cover [0, left) and [left, n)
  return TreeSum(values.first(left)) + TreeSum(values.subspan(left));
}

}  // namespace jevons
