#include "kernels/ops/softmax_xent.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

void Check(const OpContext& ctx, const Tensor& logits, const Tensor& labels, const Tensor& losses) {
  ExpectMatrix("logits", logits, DType::kF32, logits.rows(), logits.cols());
  ExpectIndices(ctx, "labels", labels, logits.rows(), -1, logits.cols());
  ExpectVector("losses", losses, DType::kF32, logits.rows());
}

}  // namespace

void CrossEntropy(const OpContext& ctx, const Tensor& logits, const Tensor& labels, const Tensor& losses) {
  Check(ctx, logits, labels, losses);
  if (logits.size() > 0) Ops(ctx.stream).cross_entropy(ctx, logits, labels, losses);
}

void CrossEntropyWithGrad(const OpContext& ctx, const Tensor& logits, const Tensor& labels, float scale, const Tensor& losses,
                          const Tensor& dlogits) {
  Check(ctx, logits, labels, losses);
  ExpectReal("dlogits", dlogits);
  ExpectMatrix("dlogits", dlogits, dlogits.dtype, logits.rows(), logits.cols());
  if (logits.size() > 0) Ops(ctx.stream).cross_entropy_with_grad(ctx, logits, labels, scale, losses, dlogits);
}

}  // namespace jevons
