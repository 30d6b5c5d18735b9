#include "trainer/model/ffn.h"

#include "kernels/ops/swiglu.h"
#include "trainer/model/linear.h"

namespace jevons {

void FfnForward(const LayerContext& ctx, const FfnWeights& w, const Tensor& x, const Tensor& y, WriteMode mode,
                FfnSaved& saved) {
  ArenaScope scope(*ctx.ops.scratch);
  const int64_t T = x.rows(), width = w.down.value.cols();
  saved.until_b.gate_up = CachedActivation(ctx, "ffn.gate_up", {T, 2 * width}, w.down.plan.fp8);
  const Tensor gate_up = saved.until_b.gate_up.value(), activated = ctx.Temp("ffn.activated", {T, width});
  LinearForward(ctx, x, w.gate_up, gate_up);
  SwiGlu(ctx.ops, gate_up, Tensor(), activated);
  LinearForward(ctx, activated, w.down, y, mode);
  saved.until_b.gate_up.Keep(ctx, "ffn.gate_up", kSwiGluCache);
}

void FfnBackwardInput(const LayerContext& ctx, const FfnWeights& w, const Tensor& dy, const Tensor& x, const FfnSaved& saved,
                      const Tensor& dx) {
  const int64_t T = dy.rows(), width = w.down.value.cols();
  const Tensor activated = ctx.Temp("ffn.activated", {T, width});
  const Tensor d_activated = ctx.Temp("ffn.d_activated", {T, width});
  const Tensor d_gate_up = ctx.Temp("ffn.d_gate_up", {T, 2 * width});
  const Tensor gate_up = saved.until_b.gate_up.Restore(ctx, "ffn.gate_up");
  SwiGlu(ctx.ops, gate_up, Tensor(), activated);
  LinearBackwardInput(ctx, dy, activated, w.down, d_activated);
  SwiGluBackward(ctx.ops, {.dy = d_activated,
                           .gate_up = gate_up,
                           .weight = Tensor(),
                           .dgate_up = d_gate_up,
                           .dweight = Tensor()});
  LinearBackwardInput(ctx, d_gate_up, x, w.gate_up, dx);
}

}  // namespace jevons
