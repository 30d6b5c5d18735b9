#include "trainer/model/moe.h"

#include <vector>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/swiglu.h"
#include "trainer/model/linear.h"

namespace jevons {

RoutingShape RoutingOf(const MoeConfig& config) {
  if (config.routed_experts() == 0) return {};
  return {.experts = config.routed_experts(), .groups = config.groups(), .kept = config.kept_groups(), .slots = config.top_k()};
}

bool Moe::local() const { return dispatcher_.local_experts().size() == dims_.router.experts; }

void Moe::Dispatch(const LayerContext& ctx, const MoeSaved& saved, const Tensor& x, const Tensor& values, bool fp8,
                   QuantStats* lost, Arena& destination, MoeTransfer& transfer) const {
  transfer = {};
  PhaseScope phase(local() ? nullptr : ctx.timer, Phase::kDispatch);
  const int64_t H = dims_.hidden, arriving = saved.handle.receive_rows;
  Dispatched what;
  if (fp8) {
    // Powers of two (report 3.3.2): to make 128x1 tiles of these for the weight gradient loses next to nothing.
    const Tensor codes = ctx.TempAs("moe.codes", DType::kU8, {x.rows(), H});
    const Tensor scales = ctx.TempAs("moe.scales", DType::kF32, {x.rows(), TilesOf(H)});
    Quantize(ctx.ops, {.x = x, .codes = codes, .scales = scales, .scale_kind = ScaleKind::kPowerOfTwo, .stats = lost});
    transfer.rows.fp8.codes = destination.Allocate("moe.received", DType::kU8, {arriving, H});
    transfer.rows.fp8.scales = destination.Allocate("moe.received_scales", DType::kF32, {arriving, TilesOf(H)});
    what.rows = {{codes, transfer.rows.fp8.codes}, {scales, transfer.rows.fp8.scales}};
  } else {
    transfer.rows.value = destination.Allocate("moe.received", x.dtype, {arriving, H});
    what.rows = {{x, transfer.rows.value}};
  }
  if (values) {
    transfer.row_values = ctx.SaveAs("moe.row_weights", DType::kF32, {arriving, 1});
    what.values = {values, transfer.row_values};
  }
  dispatcher_.BeginDispatch(ctx.ops, saved.handle, what, transfer.under_way);
}

void Moe::Advance(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer) const {
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  dispatcher_.Advance(ctx.ops, saved.handle, transfer.under_way);
}

void Moe::FinishDispatch(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer) const {
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  dispatcher_.FinishDispatch(ctx.ops, saved.handle, transfer.under_way);
}

void Moe::Combine(const LayerContext& ctx, const DispatchHandle& handle, const Tensor& rows, const Tensor& values,
                  MoeTransfer& transfer) const {
  transfer = {};
  PhaseScope phase(local() ? nullptr : ctx.timer, Phase::kDispatch);
  dispatcher_.BeginCombine(ctx.ops, handle, rows, values, transfer.under_way);
}

// The gate works in FP32.
Tensor Moe::GateInput(const LayerContext& ctx, const Tensor& x) {
  if (x.dtype == DType::kF32) return x;
  const Tensor x_fp32 = ctx.TempAs("moe.x_fp32", DType::kF32, x.shape);
  Copy(ctx.ops, x, x_fp32);
  return x_fp32;
}

void Moe::ForwardGate(const LayerContext& ctx, const MoeWeights& w, const RowLayout& rows, const Tensor& x, const Tensor& counts,
                      double* balance_loss, MoeSaved& saved) const {
  const int64_t T = rows.rows(), E = dims_.router.experts, K = dims_.router.top_k;
  if (saved.routed) return;
  MoeSaved::UntilB& b = saved.until_b;
  Arena& routing = ctx.Routing();
  b.scores = routing.Allocate("moe.scores", DType::kF32, {T, E});
  b.indices = routing.Allocate("moe.indices", DType::kI32, {T, K});
  b.weights = routing.Allocate("moe.weights", DType::kF32, {T, K});
  b.fractions = routing.Allocate("moe.fractions", DType::kF32, {rows.sequences, E});

  const Tensor logits = ctx.TempAs("moe.logits", DType::kF32, {T, E});
  const Tensor losses = ctx.TempAs("moe.balance_losses", DType::kF32, {rows.sequences});
  LinearForward(ctx, GateInput(ctx, x), w.gate, logits);
  Router(ctx.ops, dims_.router,
         {.logits = logits, .bias = w.bias, .scores = b.scores, .indices = b.indices, .weights = b.weights, .counts = counts});
  BalanceLoss(ctx.ops, dims_.router, b.scores, rows.sequence_length, b.fractions, losses);
  Sum(ctx.ops, losses, balance_loss);
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  dispatcher_.BeginPlan(ctx.ops, b.indices, counts, ctx.Routing());
}

void Moe::ForwardDispatch(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, MoeSaved& saved,
                          MoeTransfer& transfer) const {
  if (!saved.routed) {
    PhaseScope phase(ctx.timer, Phase::kDispatch);
    saved.handle = dispatcher_.FinishPlan(ctx.Routing());
    saved.routed = true;
  }
  const Tensor& weights = saved.until_b.weights;
  Dispatch(ctx, saved, x, weights.Reshape({weights.size(), 1}), w.gate_up.plan.fp8,
           ctx.fp8 == nullptr ? nullptr : &ctx.fp8->activations, *ctx.memory->until_w, transfer);
}

void Moe::ForwardShared(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, const Tensor& y, MoeSaved& saved) const {
  if (dims_.shared_intermediate > 0)
    FfnForward(ctx, w.shared, x, y, WriteMode::kOverwrite, saved.shared);
  else
    Zero(ctx.ops.stream, y);
}

std::vector<ExpertSegment> Moe::Segments(const MoeSaved& saved, const ProductPlan& plan) {
  const bool by_source = plan.fp8 && plan.dy_tiling != Tiling::kRows1x128;
  std::vector<ExpertSegment> segments;
  for (int64_t e = 0; e < saved.handle.local_experts; ++e) {
    for (int s = 0; s < (by_source ? saved.handle.sources : 1); ++s)
      if (const Range rows = by_source ? saved.handle.Segment(e, s) : saved.handle.Expert(e); !rows.empty())
        segments.push_back({e, rows});
  }
  return segments;
}

// A source rank is another micro-batch. An exact sum gets one contribution from each (contract 8), so that it does not tell where
// the micro-batches were; another one gets all rows at once, one product for each expert.
void Moe::PushExpertGradients(const LayerContext& ctx, const MoeSaved& saved, const Activation& dy, const Activation& x,
                              const ExpertWeight& w) const {
  for (int64_t e = 0; e < saved.handle.local_experts && !w.grad.empty(); ++e) {
    const GradientSum& grad = w.grad[static_cast<size_t>(e)];
    for (int s = 0; s < (grad.exact() ? saved.handle.sources : 1); ++s) {
      const Range rows = grad.exact() ? saved.handle.Segment(e, s) : saved.handle.Expert(e);
      if (rows.empty()) continue;
      ctx.wgrad->Push(dy.Rows(rows.begin, rows.size()), x.Rows(rows.begin, rows.size()), grad, w.plan,
                      ctx.ShadowError(Verb::kWgrad));
    }
  }
}

void Moe::ForwardExperts(const LayerContext& ctx, const MoeWeights& w, MoeSaved& saved, MoeTransfer& transfer) const {
  FinishDispatch(ctx, saved, transfer);
  const int64_t R = saved.handle.receive_rows;
  MoeSaved::UntilB& b = saved.until_b;
  saved.until_w.received = transfer.rows;
  b.row_weights = transfer.row_values.Reshape({R});
  const Tensor results = ctx.Temp("moe.results", {R, dims_.hidden});
  const std::vector<ExpertSegment> segments = Segments(saved, {});
  {
    ArenaScope scope(*ctx.ops.scratch);
    b.gate_up = CachedActivation(ctx, *ctx.memory->until_b, "moe.gate_up", {R, 2 * dims_.intermediate}, w.down.plan.fp8);
    ExpertsForward(ctx, segments, saved.until_w.received, w.gate_up, b.gate_up.value());
    const Activation activated =
        Activated(ctx, b.gate_up.value(), b.row_weights, w.down.plan, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->activations);
    ExpertsForward(ctx, segments, activated, w.down, results);
    b.gate_up.Keep(ctx, "moe.gate_up", kSwiGluCache);
  }
  Combine(ctx, saved.handle, results, Tensor(), transfer);
}

void Moe::ForwardCombine(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer, const Tensor& y) const {
  PhaseScope phase(local() ? nullptr : ctx.timer, Phase::kDispatch);
  dispatcher_.FinishCombine(ctx.ops, saved.handle, transfer.under_way, y, Tensor());
}

void Moe::BackwardCombine(const LayerContext& ctx, const MoeWeights& w, const Tensor& dy, const MoeSaved& saved,
                          MoeTransfer& transfer) const {
  Dispatch(ctx, saved, dy, Tensor(), w.down.plan.fp8, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->gradients, *ctx.memory->stash,
           transfer);
}

void Moe::BackwardShared(const LayerContext& ctx, const MoeWeights& w, const Tensor& dy, const Tensor& x, const MoeSaved& saved,
                         const Tensor& dx) const {
  if (dims_.shared_intermediate > 0)
    FfnBackwardInput(ctx, w.shared, dy, x, saved.shared, dx);
  else
    Zero(ctx.ops.stream, dx);
}

void Moe::BackwardExperts(const LayerContext& ctx, const MoeWeights& w, const MoeSaved& saved, MoeTransfer& transfer) const {
  FinishDispatch(ctx, saved, transfer);
  const int64_t R = saved.handle.receive_rows, width = dims_.intermediate;
  const MoeSaved::UntilB& b = saved.until_b;
  const Activation dy = transfer.rows;
  const Tensor d_activated = ctx.Temp("moe.d_activated", {R, width});
  const Tensor d_gate_up = ForGradient(ctx, w.gate_up.plan).Temp("moe.d_gate_up", {R, 2 * width});
  const Tensor d_weights = ctx.TempAs("moe.d_row_weights", DType::kF32, {R, 1});
  const Tensor dx = ctx.Temp("moe.d_received", {R, dims_.hidden});
  const std::vector<ExpertSegment> segments = Segments(saved, w.down.plan);
  const Tensor gate_up = b.gate_up.Restore(ctx, "moe.gate_up");
  const Activation activated =
      Activated(ctx.OnStash(), gate_up, b.row_weights, w.down.plan, /*lost=*/nullptr);  // counted in forward
  ExpertsBackwardInput(ctx, segments, dy, w.down, d_activated);
  SwiGluBackward(
      ctx.ops,
      {.dy = d_activated, .gate_up = gate_up, .weight = b.row_weights, .dgate_up = d_gate_up, .dweight = d_weights.Reshape({R})});
  const Activation gradient = KeptGradient(ctx, d_gate_up, w.gate_up.plan);
  ExpertsBackwardInput(ctx, segments, gradient, w.gate_up, dx);
  PushExpertGradients(ctx, saved, dy, activated, w.down);
  Combine(ctx, saved.handle, dx, d_weights, transfer);
  transfer.rows = gradient;
}

void Moe::AdvanceExperts(const LayerContext& ctx, const MoeWeights& w, const MoeSaved& saved, MoeTransfer& transfer) const {
  Advance(ctx, saved, transfer);
  PushExpertGradients(ctx, saved, transfer.rows, saved.until_w.received, w.gate_up);
}

void Moe::BackwardDispatch(const LayerContext& ctx, const MoeWeights& w, const RowLayout& rows, const Tensor& x,
                           const MoeSaved& saved, float balance_scale, MoeTransfer& transfer, const Tensor& dx) const {
  const MoeSaved::UntilB& b = saved.until_b;
  const int64_t T = rows.rows(), K = dims_.router.top_k;
  const Tensor d_weights = ctx.TempAs("moe.d_weights", DType::kF32, {T * K, 1});
  const Tensor d_logits = ctx.TempAs("moe.d_logits", DType::kF32, {T, dims_.router.experts});
  {
    PhaseScope phase(local() ? nullptr : ctx.timer, Phase::kDispatch);
    dispatcher_.FinishCombine(ctx.ops, saved.handle, transfer.under_way, dx, d_weights);
  }
  RouterBackward(ctx.ops, dims_.router,
                 {.scores = b.scores,
                  .indices = b.indices,
                  .weights = b.weights,
                  .dweights = d_weights.Reshape({T, K}),
                  .fractions = balance_scale != 0 ? b.fractions : Tensor(),
                  .balance_scale = balance_scale,
                  .sequence_length = rows.sequence_length,
                  .dlogits = d_logits});
  // Not put off as the others: this gradient is a small product of operands in FP32, which would be a tenth of all that the block keeps.
  WgradQueue gate;
  LayerContext at_once = ctx;
  at_once.wgrad = &gate;
  LinearBackwardInput(at_once, d_logits, GateInput(ctx, x), w.gate, dx, WriteMode::kAdd);
  const PhaseScope phase(ctx.timer, Phase::kWeightGrad);
  gate.Run(ctx.ops);
}

}  // namespace jevons
