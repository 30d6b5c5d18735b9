#include "kernels/ops/embedding.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/registry.h"

namespace jevons {

void Embedding(const OpContext& ctx, const Tensor& table, const Tensor& ids, const Tensor& y) {
  ExpectReal("table", table);
  ExpectMatrix("y", y, table.dtype, y.rows(), table.cols());
  ExpectIndices(ctx, "ids", ids, y.rows(), 0, table.rows());
  if (y.size() > 0) Ops(ctx.stream).embedding(ctx, table, ids, y);
}

void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable,
                       WriteMode mode) {
  ExpectReal("dy", dy);
  ExpectMatrix("dy", dy, dy.dtype, dy.rows(), dtable.cols());
  ExpectMatrix("dtable", dtable, DType::kF32, dtable.rows(), dtable.cols());
  ExpectIndices(ctx, "ids", ids, dy.rows(), 0, dtable.rows());
  if (dtable.size() > 0) Ops(ctx.stream).embedding_backward(ctx, dy, ids, dtable, mode);
}

}  // namespace jevons
