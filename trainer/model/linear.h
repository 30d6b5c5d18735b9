// Linear (no bias): y[T,N] = x[T,K] W[N,K]^T. Its three verbs are three matrix products.
#ifndef JEVONS_TRAINER_MODEL_LINEAR_H_
#define JEVONS_TRAINER_MODEL_LINEAR_H_

#include "trainer/model/context.h"

namespace jevons {

inline void LinearForward(const LayerContext& ctx, const Tensor& x, const Weight& w, const Tensor& y) {
  Gemm(ctx.ops, {.a = x, .b = w.value, .c = y, .b_form = Form::kTransposed});
}

// dx (=|+=) dy W; the weight gradient dy^T x is queued: dy and x must live until the queue has run.
inline void LinearBackwardInput(const LayerContext& ctx, const Tensor& dy, const Tensor& x, const Weight& w,
                                const Tensor& dx, WriteMode mode = WriteMode::kOverwrite) {
  Gemm(ctx.ops, {.a = dy, .b = w.value, .c = dx, .mode = mode});
  ctx.wgrad->Push(dy, x, w.grad);
}

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_LINEAR_H_
