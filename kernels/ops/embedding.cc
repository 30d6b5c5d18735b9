#include "kernels/ops/embedding.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {

void Embedding(const OpContext& ctx, const Tensor& table, const Tensor& ids, const Tensor& y) {
  ExpectReal("table", table);
  ExpectMatrix("y", y, table.dtype, y.rows(), table.cols());
  ExpectIndices(ctx, "ids", ids, y.rows(), 0, table.rows());
  if (y.size() > 0) Ops(ctx.stream).embedding(ctx, table, ids, y);
}

namespace {

void ExpectGradient(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable, DType dtype) {
  ExpectReal("dy", dy);
  ExpectMatrix("dy", dy, dy.dtype, dy.rows(), dtable.cols());
  ExpectMatrix("dtable", dtable, dtype, dtable.rows(), dtable.cols());
  ExpectIndices(ctx, "ids", ids, dy.rows(), 0, dtable.rows());
}

}  // namespace

void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable, WriteMode mode) {
  ExpectGradient(ctx, dy, ids, dtable, DType::kF32);
  if (dtable.size() > 0) Ops(ctx.stream).embedding_backward(ctx, dy, ids, dtable, mode);
}

void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const FixedPoint& format, const Tensor& dtable,
                       WriteMode mode, int64_t* flag) {
  ExpectGradient(ctx, dy, ids, dtable, DType::kI64);
  ExpectFixedPoint(format);
  JEVONS_CHECK(dy.size() == 0 || flag != nullptr, "no flag to raise");
  if (dtable.size() > 0) Ops(ctx.stream).embedding_backward_fixed_point(ctx, dy, ids, format, dtable, mode, flag);
}

}  // namespace jevons
