// The SwiGLU feed-forward network: the dense layers' and the shared experts'. y = W_down (silu(W_gate x) * W_up x);
// gate and up are one matrix, gate rows first.
#ifndef JEVONS_TRAINER_MODEL_FFN_H_
#define JEVONS_TRAINER_MODEL_FFN_H_

#include "trainer/model/activation.h"

namespace jevons {

struct FfnWeights {
  Weight gate_up, down;  // [2I, H], [H, I]
};

// SwiGLU's output is computed again in backward (report 3.2.3), and so is the input: it is a norm's output, the caller's.
struct FfnSaved {
  struct UntilB {
    CachedActivation gate_up;  // [T, 2I]
  } until_b;
};

// SwiGLU of gate_up [R,2I] with the rows' weights ([R] FP32, or empty for 1) as a product of `plan` reads it, on ctx.ops.scratch: where that
// is in FP8 its codes alone, made in the same pass; a shadow step has the value too. lost: what quantisation loses, or null.
Activation Activated(const LayerContext& ctx, const Tensor& gate_up, const Tensor& weight, const ProductPlan& plan,
                     QuantStats* lost);

// y (=|+=) ffn(x); y: [T, H].
void FfnForward(const LayerContext& ctx, const FfnWeights& w, const Tensor& x, const Tensor& y, WriteMode mode, FfnSaved& saved);
// x: as in forward. dx overwritten. How long dy and x must live: KeptGradient of down's plan, KeptInput of gate_up's (linear.h).
void FfnBackwardInput(const LayerContext& ctx, const FfnWeights& w, const Tensor& dy, const Tensor& x, const FfnSaved& saved,
                      const Tensor& dx);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_FFN_H_
