// The SwiGLU feed-forward network: the dense layers' and the shared experts'. y = W_down (silu(W_gate x) * W_up x);
// gate and up are one matrix, gate rows first.
#ifndef JEVONS_TRAINER_MODEL_FFN_H_
#define JEVONS_TRAINER_MODEL_FFN_H_

#include "trainer/model/context.h"

namespace jevons {

struct FfnWeights {
  Weight gate_up, down;  // [2I, H], [H, I]
};

struct FfnSaved {
  struct UntilB {
    Tensor gate_up;  // [T, 2I]
  } until_b;
  struct UntilW {
    Tensor x, activated;  // [T, H] the caller's, [T, I]
  } until_w;
};

// y (=|+=) ffn(x); y: [T, H].
void FfnForward(const LayerContext& ctx, const FfnWeights& w, const Tensor& x, const Tensor& y, WriteMode mode,
                FfnSaved& saved);
// dx overwritten; what the queued weight gradients read stays on scratch.
void FfnBackwardInput(const LayerContext& ctx, const FfnWeights& w, const Tensor& dy, const FfnSaved& saved,
                      const Tensor& dx);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_FFN_H_
