#include "kernels/ops/reduce.h"

#include <bit>

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

void SumsOfSquares(const OpContext& ctx, std::span<const SquaresSlice> slices, int64_t chunk) {
  JEVONS_CHECK(chunk > 0 && chunk % kSquaresBlock == 0, "chunks of %lld elements", static_cast<long long>(chunk));
  for (const SquaresSlice& slice : slices) {
    ExpectVector("x", slice.x, slice.x.dtype == DType::kI64 ? DType::kI64 : DType::kF32, slice.x.size());
    ExpectUnit("x", slice.unit);
  }
  if (!slices.empty()) Ops(ctx.stream).sums_of_squares(ctx, slices, chunk);
}

void JoinSums(const OpContext& ctx, std::span<const PartialSums> vectors, std::span<const std::pair<int, int>> order) {
  JEVONS_CHECK(order.empty() || order.back().first == 0, "the last addition is to value %d", order.back().first);
  for (const PartialSums& vector : vectors) {
    const int values = static_cast<int>(vector.values.size());
    JEVONS_CHECK(values > 0, "a sum of no values");
    for (const auto& [left, right] : order)
      JEVONS_CHECK(left >= 0 && left < values && right >= 0 && right < values, "value %d += value %d of %d", left, right, values);
  }
  if (!vectors.empty()) Ops(ctx.stream).join_sums(ctx, vectors, order);
}

void Sum(const OpContext& ctx, const Tensor& x, double* sum) {
  ExpectVector("x", x, DType::kF32, x.size());
  Ops(ctx.stream).sum(ctx, x, sum);
}

double TreeSum(std::span<const double> values) {
  if (values.empty()) return 0.0;
  if (values.size() == 1) return values[0];
  const size_t left = std::bit_ceil(values.size()) / 2;  // the children of the root cover [0, left) and [left, n)
  return TreeSum(values.first(left)) + TreeSum(values.subspan(left));
}

}  // namespace jevons
