#include "trainer/model/ffn.h"

#include "kernels/ops/swiglu.h"
#include "trainer/model/linear.h"

namespace jevons {

void FfnForward(const LayerContext& ctx, const FfnWeights& w, const Tensor& x, const Tensor& y, WriteMode mode,
                FfnSaved& saved) {
  const int64_t T = x.rows(), width = w.down.value.cols();
  saved.until_w.x = x;
  saved.until_b.gate_up = ctx.Save("ffn.gate_up", {T, 2 * width});
  saved.until_w.activated = ctx.Save("ffn.activated", {T, width});
  LinearForward(ctx, x, w.gate_up, saved.until_b.gate_up);
  SwiGlu(ctx.ops, saved.until_b.gate_up, Tensor(), saved.until_w.activated);
  LinearForward(ctx, saved.until_w.activated, w.down, y, mode);
}

void FfnBackwardInput(const LayerContext& ctx, const FfnWeights& w, const Tensor& dy, const FfnSaved& saved,
                      const Tensor& dx) {
  const int64_t T = dy.rows(), width = w.down.value.cols();
  const Tensor d_activated = ctx.Temp("ffn.d_activated", {T, width});
  const Tensor d_gate_up = ctx.Temp("ffn.d_gate_up", {T, 2 * width});
  LinearBackwardInput(ctx, dy, saved.until_w.activated, w.down, d_activated);
  SwiGluBackward(ctx.ops, {.dy = d_activated,
                           .gate_up = saved.until_b.gate_up,
                           .weight = Tensor(),
                           .dgate_up = d_gate_up,
                           .dweight = Tensor()});
  LinearBackwardInput(ctx, d_gate_up, saved.until_w.x, w.gate_up, dx);
}

}  // namespace jevons
