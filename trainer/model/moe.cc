#include "trainer/model/moe.h"

#include <vector>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/swiglu.h"
#include "trainer/model/linear.h"

namespace jevons {

bool Moe::local() const { return dispatcher_.local_experts().size() == dims_.router.experts; }

void Moe::Dispatch(const LayerContext& ctx, const MoeSaved& saved, const Tensor& x, const Tensor& values, bool fp8,
                   QuantStats* lost, Arena& destination, MoeTransfer& transfer) const {
  transfer = {};
  PhaseScope phase(local() ? nullptr : ctx.timer, Phase::kDispatch);
  const int64_t H = dims_.hidden, arriving = local() ? saved.handle.send_rows : saved.handle.receive_rows;
  if (fp8) {
    // Powers of two (report 3.3.2): to make 128x1 tiles of these for the weight gradient loses next to nothing.
    const Tensor codes = ctx.TempAs("moe.codes", DType::kU8, {x.rows(), H});
    const Tensor scales = ctx.TempAs("moe.scales", DType::kF32, {x.rows(), TilesOf(H)});
    Quantize(ctx.ops, {.x = x, .codes = codes, .scales = scales, .scale_kind = ScaleKind::kPowerOfTwo, .stats = lost});
    transfer.rows.fp8.codes = destination.Allocate("moe.received", DType::kU8, {arriving, H});
    transfer.rows.fp8.scales = destination.Allocate("moe.received_scales", DType::kF32, {arriving, TilesOf(H)});
    transfer.rows_request = BeginRows(ctx, saved, codes, transfer.rows.fp8.codes);
    transfer.scales_request = BeginRows(ctx, saved, scales, transfer.rows.fp8.scales);
  } else {
    transfer.rows.value = destination.Allocate("moe.received", x.dtype, {arriving, H});
    transfer.rows_request = BeginRows(ctx, saved, x, transfer.rows.value);
  }
  transfer.row_values = values;
  if (!values || local()) return;
  transfer.row_values = destination.Allocate("moe.received_values", DType::kF32, {arriving, 1});
  transfer.values_request = dispatcher_.BeginDispatch(saved.handle, values, transfer.row_values);
}

CommRequest Moe::BeginRows(const LayerContext& ctx, const MoeSaved& saved, const Tensor& x, const Tensor& arrived) const {
  const Tensor sorted = local() ? arrived : ctx.TempAs("moe.sorted", x.dtype, {saved.handle.send_rows, x.cols()});
  GatherRows(ctx.ops, x, saved.until_b.pair_of, dims_.router.top_k, sorted);
  return local() ? CommRequest{} : dispatcher_.BeginDispatch(saved.handle, sorted, arrived);
}

void Moe::Combine(const LayerContext& ctx, const DispatchHandle& handle, const Tensor& rows, const Tensor& values,
                  MoeTransfer& transfer) const {
  transfer = {};
  transfer.rows.value = rows;
  transfer.row_values = values;
  if (local()) return;
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  transfer.rows.value = ctx.Temp("moe.returned", {handle.send_rows, dims_.hidden});
  transfer.rows_request = dispatcher_.BeginCombine(handle, rows, transfer.rows.value);
  if (!values) return;
  transfer.row_values = ctx.TempAs("moe.returned_values", DType::kF32, {handle.send_rows, 1});
  transfer.values_request = dispatcher_.BeginCombine(handle, values, transfer.row_values);
}

void Moe::Receive(const LayerContext& ctx, MoeTransfer& transfer) const {
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  for (CommRequest* request : {&transfer.rows_request, &transfer.scales_request, &transfer.values_request}) {
    if (request->id >= 0) dispatcher_.Finish(*request);
    *request = {};
  }
}

// The gate works in FP32.
Tensor Moe::GateInput(const LayerContext& ctx, const Tensor& x) {
  if (x.dtype == DType::kF32) return x;
  const Tensor x_fp32 = ctx.TempAs("moe.x_fp32", DType::kF32, x.shape);
  Copy(ctx.ops, x, x_fp32);
  return x_fp32;
}

void Moe::ForwardDispatch(const LayerContext& ctx, const MoeWeights& w, const RowLayout& rows, const Tensor& x,
                          const Tensor& counts, double* balance_loss, MoeSaved& saved, MoeTransfer& transfer) const {
  const int64_t T = rows.rows(), E = dims_.router.experts, K = dims_.router.top_k;
  MoeSaved::UntilB& b = saved.until_b;
  b.scores = ctx.SaveAs("moe.scores", DType::kF32, {T, E});
  b.indices = ctx.SaveAs("moe.indices", DType::kI32, {T, K});
  b.weights = ctx.SaveAs("moe.weights", DType::kF32, {T, K});
  b.fractions = ctx.SaveAs("moe.fractions", DType::kF32, {rows.sequences, E});
  b.row_of = ctx.SaveAs("moe.row_of", DType::kI32, {T * K});
  b.pair_of = ctx.SaveAs("moe.pair_of", DType::kI32, {T * K});

  const Tensor logits = ctx.TempAs("moe.logits", DType::kF32, {T, E});
  const Tensor losses = ctx.TempAs("moe.balance_losses", DType::kF32, {rows.sequences});
  LinearForward(ctx, GateInput(ctx, x), w.gate, logits);
  Router(ctx.ops, dims_.router,
         {.logits = logits, .bias = w.bias, .scores = b.scores, .indices = b.indices, .weights = b.weights, .counts = counts});
  BalanceLoss(ctx.ops, dims_.router, b.scores, rows.sequence_length, b.fractions, losses);
  Sum(ctx.ops, losses, balance_loss);
  SortByExpert(ctx.ops, b.indices, counts, b.row_of, b.pair_of);
  {
    PhaseScope phase(ctx.timer, Phase::kDispatch);
    saved.handle = dispatcher_.Plan(counts);
  }
  const Tensor values =  // kept where nothing travels
      (local() ? *ctx.saved : *ctx.ops.scratch).Allocate("moe.sorted_weights", DType::kF32, {T * K, 1});
  GatherRows(ctx.ops, b.weights.Reshape({T * K, 1}), b.pair_of, 1, values);
  Dispatch(ctx, saved, x, values, w.gate_up.plan.fp8, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->activations, *ctx.saved, transfer);
}

void Moe::ForwardShared(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, const Tensor& y,
                        MoeSaved& saved) const {
  if (dims_.shared_intermediate > 0)
    FfnForward(ctx, w.shared, x, y, WriteMode::kOverwrite, saved.shared);
  else
    Zero(ctx.ops.stream, y);
}

std::vector<ExpertSegment> Moe::Segments(const MoeSaved& saved) {
  std::vector<ExpertSegment> segments;
  for (int64_t e = 0; e < saved.handle.local_experts; ++e)
    for (int s = 0; s < saved.handle.sources; ++s)
      if (const Range rows = saved.handle.Segment(e, s); !rows.empty()) segments.push_back({e, rows});
  return segments;
}

// One product per (micro-batch, expert), kept apart until the tree joins them (contract 8): a source rank is a micro-batch.
void Moe::PushExpertGradients(const LayerContext& ctx, const MoeSaved& saved, const Activation& dy, const Activation& x,
                              const ExpertWeight& w) const {
  for (int64_t e = 0; e < saved.handle.local_experts; ++e) {
    for (int s = 0; s < saved.handle.sources; ++s) {
      const Range segment = saved.handle.Segment(e, s);
      const GradTarget& grad = w.grad[static_cast<size_t>(s)];
      if (!grad.tensor) {
        JEVONS_CHECK(segment.empty(), "rows from source %d, which has no micro-batch", s);
        continue;
      }
      ctx.wgrad->Push(dy.Rows(segment.begin, segment.size()), x.Rows(segment.begin, segment.size()),
                      {grad.tensor.Index(e), grad.mode}, w.plan, ctx.shadow == nullptr ? nullptr : ctx.shadow->at(Verb::kWgrad));
    }
  }
}

void Moe::ForwardExperts(const LayerContext& ctx, const MoeWeights& w, MoeSaved& saved, MoeTransfer& transfer) const {
  Receive(ctx, transfer);
  const int64_t R = saved.handle.receive_rows;
  MoeSaved::UntilB& b = saved.until_b;
  saved.until_w.received = transfer.rows;
  b.row_weights = transfer.row_values.Reshape({R});
  const Tensor results = ctx.Temp("moe.results", {R, dims_.hidden});
  const std::vector<ExpertSegment> segments = Segments(saved);
  {
    ArenaScope scope(*ctx.ops.scratch);
    b.gate_up = CachedActivation(ctx, "moe.gate_up", {R, 2 * dims_.intermediate}, w.down.plan.fp8);
    ExpertsForward(ctx, segments, saved.until_w.received, w.gate_up, b.gate_up.value());
    const Activation activated =
        Activated(ctx, b.gate_up.value(), b.row_weights, w.down.plan, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->activations);
    ExpertsForward(ctx, segments, activated, w.down, results);
    b.gate_up.Keep(ctx, "moe.gate_up", kSwiGluCache);
  }
  Combine(ctx, saved.handle, results, Tensor(), transfer);
}

void Moe::ForwardCombine(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer, const Tensor& y) const {
  Receive(ctx, transfer);
  SumRows(ctx.ops, transfer.rows.value, saved.until_b.row_of, dims_.router.top_k, y, WriteMode::kAdd);
}

void Moe::BackwardCombine(const LayerContext& ctx, const MoeWeights& w, const Tensor& dy, const MoeSaved& saved,
                          MoeTransfer& transfer) const {
  Dispatch(ctx, saved, dy, Tensor(), w.down.plan.fp8, ctx.fp8 == nullptr ? nullptr : &ctx.fp8->gradients, *ctx.ops.scratch, transfer);
}

void Moe::BackwardShared(const LayerContext& ctx, const MoeWeights& w, const Tensor& dy, const Tensor& x, const MoeSaved& saved,
                         const Tensor& dx) const {
  if (dims_.shared_intermediate > 0)
    FfnBackwardInput(ctx, w.shared, dy, x, saved.shared, dx);
  else
    Zero(ctx.ops.stream, dx);
}

void Moe::BackwardExperts(const LayerContext& ctx, const MoeWeights& w, const MoeSaved& saved,
                          MoeTransfer& transfer) const {
  Receive(ctx, transfer);
  const int64_t R = saved.handle.receive_rows, width = dims_.intermediate;
  const MoeSaved::UntilB& b = saved.until_b;
  const Activation dy = transfer.rows;
  const Tensor d_activated = ctx.Temp("moe.d_activated", {R, width});
  const Tensor d_gate_up = ctx.Temp("moe.d_gate_up", {R, 2 * width});
  const Tensor d_weights = ctx.TempAs("moe.d_row_weights", DType::kF32, {R, 1});
  const Tensor dx = ctx.Temp("moe.d_received", {R, dims_.hidden});
  const std::vector<ExpertSegment> segments = Segments(saved);
  const Tensor gate_up = b.gate_up.Restore(ctx, "moe.gate_up");
  const Activation activated = Activated(ctx, gate_up, b.row_weights, w.down.plan, /*lost=*/nullptr);  // counted in forward
  ExpertsBackwardInput(ctx, segments, dy, w.down, d_activated);
  SwiGluBackward(ctx.ops, {.dy = d_activated,
                           .gate_up = gate_up,
                           .weight = b.row_weights,
                           .dgate_up = d_gate_up,
                           .dweight = d_weights.Reshape({R})});
  const Activation gradient = AsGradient(ctx, d_gate_up, w.gate_up.plan);
  ExpertsBackwardInput(ctx, segments, gradient, w.gate_up, dx);
  PushExpertGradients(ctx, saved, dy, activated, w.down);
  PushExpertGradients(ctx, saved, gradient, saved.until_w.received, w.gate_up);
  Combine(ctx, saved.handle, dx, d_weights, transfer);
}

void Moe::BackwardDispatch(const LayerContext& ctx, const MoeWeights& w, const RowLayout& rows, const Tensor& x,
                           const MoeSaved& saved, float balance_scale, MoeTransfer& transfer, const Tensor& dx) const {
  const MoeSaved::UntilB& b = saved.until_b;
  const int64_t T = rows.rows(), K = dims_.router.top_k;
  Receive(ctx, transfer);
  SumRows(ctx.ops, transfer.rows.value, b.row_of, K, dx, WriteMode::kAdd);

  const Tensor d_weights = ctx.TempAs("moe.d_weights", DType::kF32, {T * K, 1});
  const Tensor d_logits = ctx.TempAs("moe.d_logits", DType::kF32, {T, dims_.router.experts});
  SumRows(ctx.ops, transfer.row_values, b.row_of, 1, d_weights, WriteMode::kOverwrite);
  RouterBackward(ctx.ops, dims_.router,
                 {.scores = b.scores,
                  .indices = b.indices,
                  .weights = b.weights,
                  .dweights = d_weights.Reshape({T, K}),
                  .fractions = balance_scale != 0 ? b.fractions : Tensor(),
                  .balance_scale = balance_scale,
                  .sequence_length = rows.sequence_length,
                  .dlogits = d_logits});
  LinearBackwardInput(ctx, d_logits, GateInput(ctx, x), w.gate, dx, WriteMode::kAdd);
}

}  // namespace jevons
