#include "kernels/ops/permute.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

void SortByExpert(const OpContext& ctx, const Tensor& indices, const Tensor& counts, const Tensor& row_of,
                  const Tensor& pair_of) {
  const int64_t pairs = indices.size();
  ExpectIndices(ctx, "indices", indices, pairs, 0, counts.size());
  ExpectVector("counts", counts, DType::kI64, counts.size());
  ExpectVector("row_of", row_of, DType::kI32, pairs);
  ExpectVector("pair_of", pair_of, DType::kI32, pairs);
  JEVONS_CHECK(pairs <= INT32_MAX, "%lld pairs do not fit 32 bits", static_cast<long long>(pairs));
  if (pairs > 0) Ops(ctx.stream).sort_by_expert(ctx, indices, counts, row_of, pair_of);
}

void GatherRows(const OpContext& ctx, const Tensor& x, const Tensor& pair_of, int64_t slots, const Tensor& y) {
  JEVONS_CHECK(slots > 0);
  ExpectMatrix("y", y, x.dtype, y.rows(), x.cols());
  ExpectIndices(ctx, "pair_of", pair_of, y.rows(), 0, x.rows() * slots);
  if (y.size() > 0) Ops(ctx.stream).gather_rows(ctx, x, pair_of, slots, y);
}

void SumRows(const OpContext& ctx, const Tensor& y, const Tensor& row_of, int64_t slots, const Tensor& out, WriteMode mode) {
  JEVONS_CHECK(slots > 0);
  ExpectReal("y", y);
  ExpectReal("out", out);
  ExpectMatrix("out", out, out.dtype, out.rows(), y.cols());
  ExpectIndices(ctx, "row_of", row_of, out.rows() * slots, 0, y.rows());
  if (out.size() > 0) Ops(ctx.stream).sum_rows(ctx, y, row_of, slots, out, mode);
}

void SumRowsByGroup(const OpContext& ctx, const Tensor& y, const Tensor& row_of, const Tensor& indices, int64_t experts_per_group,
                    const Tensor& out, WriteMode mode) {
  const int64_t tokens = out.rows(), slots = indices.cols();
  JEVONS_CHECK(slots > 0 && experts_per_group > 0 && experts_per_group <= INT32_MAX, "%lld slots, groups of %lld experts",
               static_cast<long long>(slots), static_cast<long long>(experts_per_group));
  ExpectReal("y", y);
  ExpectReal("out", out);
  ExpectMatrix("out", out, out.dtype, tokens, y.cols());
  ExpectIndices(ctx, "row_of", row_of, tokens * slots, 0, y.rows());
  ExpectIndices(ctx, "indices", indices, tokens * slots, 0, int64_t{INT32_MAX} + 1);
  if (out.size() > 0) Ops(ctx.stream).sum_rows_by_group(ctx, y, row_of, indices, experts_per_group, out, mode);
}

void SumSegments(const OpContext& ctx, const Tensor& y, const Tensor& rows, const Tensor& offsets, const Tensor& out,
                 WriteMode mode) {
  ExpectReal("y", y);
  ExpectReal("out", out);
  ExpectMatrix("out", out, out.dtype, out.rows(), y.cols());
  ExpectIndices(ctx, "rows", rows, rows.size(), 0, y.rows());
  ExpectIndices(ctx, "offsets", offsets, out.rows() + 1, 0, rows.size() + 1);
  if (out.size() > 0) Ops(ctx.stream).sum_segments(ctx, y, rows, offsets, out, mode);
}

}  // namespace jevons
