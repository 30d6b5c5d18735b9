#include "trainer/model/ffn.h"

#include "kernels/ops/swiglu.h"
#include "kernels/ops/swiglu_quantize.h"
#include "trainer/model/linear.h"

namespace jevons {

Activation Activated(const LayerContext& ctx, const Tensor& gate_up, const Tensor& weight, const ProductPlan& plan,
                     QuantStats* lost) {
  const int64_t rows = gate_up.rows(), width = gate_up.cols() / 2;
  Activation y;
  if (!plan.fp8 || ctx.shadow != nullptr) {
    y.value = ctx.Temp("ffn.activated", {rows, width});
    SwiGlu(ctx.ops, gate_up, weight, y.value);
  }
  if (!plan.fp8) return y;
  y.fp8 = {.codes = ctx.TempAs("ffn.activated", DType::kU8, {rows, width}),
           .scales = ctx.TempAs("ffn.activated", DType::kF32, {rows, TilesOf(width)})};
  SwiGluQuantize(
      ctx.ops,
      {.gate_up = gate_up, .weight = weight, .codes = y.fp8.codes, .scales = y.fp8.scales, .scale_kind = plan.x, .stats = lost});
  return y;
}

void FfnForward(const LayerContext& ctx, const FfnWeights& w, const Tensor& x, const Tensor& y, WriteMode mode, FfnSaved& saved) {
  ArenaScope scope(*ctx.ops.scratch);
  const int64_t T = x.rows(), width = w.down.value.cols();
  saved.until_b.gate_up = CachedActivation(ctx, *ctx.memory->until_b, "ffn.gate_up", {T, 2 * width}, w.down.plan.fp8);
  const Tensor gate_up = saved.until_b.gate_up.value();
  LinearForward(ctx, x, w.gate_up, gate_up);
  const Activation activated =
      Activated(ctx, gate_up, Tensor(), w.down.plan, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->activations);
  LinearForward(ctx, activated, w.down, y, mode);
  saved.until_b.gate_up.Keep(ctx, "ffn.gate_up", kSwiGluCache);
}

void FfnBackwardInput(const LayerContext& ctx, const FfnWeights& w, const Tensor& dy, const Tensor& x, const FfnSaved& saved,
                      const Tensor& dx) {
  ArenaScope scope(*ctx.ops.scratch);
  const int64_t T = dy.rows(), width = w.down.value.cols();
  const Tensor d_activated = ctx.Temp("ffn.d_activated", {T, width});
  const Tensor d_gate_up = ForGradient(ctx, w.gate_up.plan).Temp("ffn.d_gate_up", {T, 2 * width});
  const Tensor gate_up = saved.until_b.gate_up.Restore(ctx, "ffn.gate_up");
  const Activation activated = Activated(ctx.OnStash(), gate_up, Tensor(), w.down.plan, /*lost=*/nullptr);  // counted in forward
  LinearBackwardInput(ctx, dy, activated, w.down, d_activated);
  SwiGluBackward(ctx.ops,
                 {.dy = d_activated, .gate_up = gate_up, .weight = Tensor(), .dgate_up = d_gate_up, .dweight = Tensor()});
  LinearBackwardInput(ctx, d_gate_up, x, w.gate_up, dx);
}

}  // namespace jevons
