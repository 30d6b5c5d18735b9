// Cross-entropy of softmax(logits) over a chunk of rows: loss[r] = log(sum exp(logits[r])) - logits[r, label].
// logits: [R,V] FP32; labels: [R] I32, -1 = ignored (loss 0, gradient 0).
#ifndef JEVONS_KERNELS_OPS_SOFTMAX_XENT_H_
#define JEVONS_KERNELS_OPS_SOFTMAX_XENT_H_

#include "kernels/ops/context.h"

namespace jevons {

// losses: [R] FP32.
void CrossEntropy(const OpContext& ctx, const Tensor& logits, const Tensor& labels, const Tensor& losses);

// The same, and dlogits = scale * (softmax(logits) - onehot(label)): [R,V] FP32 (may be logits itself) or BF16.
void CrossEntropyWithGrad(const OpContext& ctx, const Tensor& logits, const Tensor& labels, float scale, const Tensor& losses,
                          const Tensor& dlogits);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_SOFTMAX_XENT_H_
