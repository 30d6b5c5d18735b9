#include "trainer/model/moe.h"

#include <numeric>
#include <vector>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/swiglu.h"
#include "trainer/model/linear.h"

namespace jevons {

bool Moe::local() const { return dispatcher_.local_experts().size() == dims_.router.experts; }

void Moe::Dispatch(const LayerContext& ctx, const MoeSaved& saved, const Tensor& x, const Tensor& values, bool fp8,
                   Arena& destination, MoeTransfer& transfer) const {
  transfer = {};
  if (local()) {  // nothing travels: the sorted rows are what the experts work on
    transfer.rows = destination.Allocate("moe.sorted", x.dtype, {saved.handle.send_rows, dims_.hidden});
    transfer.row_values = values;
    return GatherRows(ctx.ops, x, saved.until_b.pair_of, dims_.router.top_k, transfer.rows);
  }
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  transfer.rows = destination.Allocate("moe.received", x.dtype, {saved.handle.receive_rows, dims_.hidden});
  fp8 ? BeginCodes(ctx, saved, x, transfer) : BeginRows(ctx, saved, x, transfer);
  if (!values) return;
  transfer.row_values = destination.Allocate("moe.received_values", DType::kF32, {saved.handle.receive_rows, 1});
  transfer.values_request = dispatcher_.BeginDispatch(saved.handle, values, transfer.row_values);
}

void Moe::BeginRows(const LayerContext& ctx, const MoeSaved& saved, const Tensor& x, MoeTransfer& transfer) const {
  const Tensor sorted = ctx.Temp("moe.sorted", {saved.handle.send_rows, dims_.hidden});
  GatherRows(ctx.ops, x, saved.until_b.pair_of, dims_.router.top_k, sorted);
  transfer.rows_request = dispatcher_.BeginDispatch(saved.handle, sorted, transfer.rows);
}

// Powers of two (report 3.3.2): code times scale is exact in every compute type, and quantising it again gives it back.
void Moe::BeginCodes(const LayerContext& ctx, const MoeSaved& saved, const Tensor& x, MoeTransfer& transfer) const {
  const int64_t T = x.rows(), H = dims_.hidden, sent = saved.handle.send_rows, arriving = saved.handle.receive_rows;
  const Tensor codes = ctx.TempAs("moe.codes", DType::kU8, {T, H}), scales = ctx.TempAs("moe.scales", DType::kF32, {T, TilesOf(H)});
  const Tensor sorted = ctx.TempAs("moe.sorted_codes", DType::kU8, {sent, H});
  const Tensor sorted_scales = ctx.TempAs("moe.sorted_scales", DType::kF32, {sent, TilesOf(H)});
  Quantize(ctx.ops, {.x = x, .codes = codes, .scales = scales, .scale_kind = ScaleKind::kPowerOfTwo});
  GatherRows(ctx.ops, codes, saved.until_b.pair_of, dims_.router.top_k, sorted);
  GatherRows(ctx.ops, scales, saved.until_b.pair_of, dims_.router.top_k, sorted_scales);
  transfer.codes = ctx.TempAs("moe.received_codes", DType::kU8, {arriving, H});
  transfer.scales = ctx.TempAs("moe.received_scales", DType::kF32, {arriving, TilesOf(H)});
  transfer.rows_request = dispatcher_.BeginDispatch(saved.handle, sorted, transfer.codes);
  transfer.scales_request = dispatcher_.BeginDispatch(saved.handle, sorted_scales, transfer.scales);
}

void Moe::Combine(const LayerContext& ctx, const DispatchHandle& handle, const Tensor& rows, const Tensor& values,
                  MoeTransfer& transfer) const {
  transfer = {};
  transfer.rows = rows;
  transfer.row_values = values;
  if (local()) return;
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  transfer.rows = ctx.Temp("moe.returned", {handle.send_rows, dims_.hidden});
  transfer.rows_request = dispatcher_.BeginCombine(handle, rows, transfer.rows);
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
  if (transfer.codes) Dequantize(ctx.ops, {.codes = transfer.codes, .scales = transfer.scales, .x = transfer.rows});
  transfer.codes = transfer.scales = {};
}

double Moe::ForwardDispatch(const LayerContext& ctx, const MoeWeights& w, const RowLayout& rows, const Tensor& x,
                            const Tensor& counts, MoeSaved& saved, MoeTransfer& transfer) const {
  const int64_t T = rows.rows(), E = dims_.router.experts, K = dims_.router.top_k;
  MoeSaved::UntilB& b = saved.until_b;
  saved.until_w.x = saved.until_w.x_fp32 = x;
  if (x.dtype != DType::kF32) {
    saved.until_w.x_fp32 = ctx.SaveAs("moe.x_fp32", DType::kF32, x.shape);
    Copy(ctx.ops, x, saved.until_w.x_fp32);
  }
  b.scores = ctx.SaveAs("moe.scores", DType::kF32, {T, E});
  b.indices = ctx.SaveAs("moe.indices", DType::kI32, {T, K});
  b.weights = ctx.SaveAs("moe.weights", DType::kF32, {T, K});
  b.fractions = ctx.SaveAs("moe.fractions", DType::kF32, {rows.sequences, E});
  b.row_of = ctx.SaveAs("moe.row_of", DType::kI32, {T * K});
  b.pair_of = ctx.SaveAs("moe.pair_of", DType::kI32, {T * K});

  const Tensor logits = ctx.TempAs("moe.logits", DType::kF32, {T, E});
  const Tensor losses = ctx.TempAs("moe.balance_losses", DType::kF32, {rows.sequences});
  LinearForward(ctx, saved.until_w.x_fp32, w.gate, logits);
  Router(ctx.ops, dims_.router,
         {.logits = logits, .bias = w.bias, .scores = b.scores, .indices = b.indices, .weights = b.weights, .counts = counts});
  BalanceLoss(ctx.ops, dims_.router, b.scores, rows.sequence_length, b.fractions, losses);
  SortByExpert(ctx.ops, b.indices, counts, b.row_of, b.pair_of);
  {
    PhaseScope phase(ctx.timer, Phase::kDispatch);
    saved.handle = dispatcher_.Plan({counts.as<int64_t>(), static_cast<size_t>(E)});
  }
  const Tensor values =  // kept where nothing travels
      (local() ? *ctx.saved : *ctx.ops.scratch).Allocate("moe.sorted_weights", DType::kF32, {T * K, 1});
  GatherRows(ctx.ops, b.weights.Reshape({T * K, 1}), b.pair_of, 1, values);
  Dispatch(ctx, saved, x, values, w.gate_up.plan.fp8, *ctx.saved, transfer);
  const float* loss = losses.as<float>();
  return std::accumulate(loss, loss + rows.sequences, 0.0);
}

void Moe::ForwardShared(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, const Tensor& y,
                        MoeSaved& saved) const {
  if (dims_.shared_intermediate > 0)
    FfnForward(ctx, w.shared, x, y, WriteMode::kOverwrite, saved.shared);
  else
    Zero(y);
}

std::vector<ExpertSegment> Moe::Segments(const MoeSaved& saved) {
  std::vector<ExpertSegment> segments;
  for (int64_t e = 0; e < saved.handle.local_experts; ++e)
    for (int s = 0; s < saved.handle.sources; ++s)
      if (const Range rows = saved.handle.Segment(e, s); !rows.empty()) segments.push_back({e, rows});
  return segments;
}

// One product per (micro-batch, expert), kept apart until the tree joins them (contract 8): a source rank is a micro-batch.
void Moe::PushExpertGradients(const LayerContext& ctx, const MoeSaved& saved, const Tensor& dy, const Tensor& x,
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
                      {grad.tensor.Index(e), grad.mode}, w.plan);
    }
  }
}

void Moe::ForwardExperts(const LayerContext& ctx, const MoeWeights& w, MoeSaved& saved, MoeTransfer& transfer) const {
  Receive(ctx, transfer);
  const int64_t R = saved.handle.receive_rows;
  saved.until_w.received = transfer.rows;
  saved.until_b.row_weights = transfer.row_values.Reshape({R});
  saved.until_b.gate_up = ctx.Save("moe.gate_up", {R, 2 * dims_.intermediate});
  saved.until_w.activated = ctx.Save("moe.activated", {R, dims_.intermediate});
  const Tensor results = ctx.Temp("moe.results", {R, dims_.hidden});
  const std::vector<ExpertSegment> segments = Segments(saved);
  ExpertsForward(ctx, segments, saved.until_w.received, w.gate_up, saved.until_b.gate_up);
  SwiGlu(ctx.ops, saved.until_b.gate_up, saved.until_b.row_weights, saved.until_w.activated);
  ExpertsForward(ctx, segments, saved.until_w.activated, w.down, results);
  Combine(ctx, saved.handle, results, Tensor(), transfer);
}

void Moe::ForwardCombine(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer, const Tensor& y) const {
  Receive(ctx, transfer);
  SumRows(ctx.ops, transfer.rows, saved.until_b.row_of, dims_.router.top_k, y, WriteMode::kAdd);
}

void Moe::BackwardCombine(const LayerContext& ctx, const MoeWeights& w, const Tensor& dy, const MoeSaved& saved,
                          MoeTransfer& transfer) const {
  Dispatch(ctx, saved, dy, Tensor(), w.down.plan.fp8, *ctx.ops.scratch, transfer);
}

void Moe::BackwardShared(const LayerContext& ctx, const MoeWeights& w, const Tensor& dy, const MoeSaved& saved,
                         const Tensor& dx) const {
  if (dims_.shared_intermediate > 0)
    FfnBackwardInput(ctx, w.shared, dy, saved.shared, dx);
  else
    Zero(dx);
}

void Moe::BackwardExperts(const LayerContext& ctx, const MoeWeights& w, const MoeSaved& saved,
                          MoeTransfer& transfer) const {
  Receive(ctx, transfer);
  const int64_t R = saved.handle.receive_rows;
  const Tensor dy = transfer.rows;
  const Tensor d_activated = ctx.Temp("moe.d_activated", {R, dims_.intermediate});
  const Tensor d_gate_up = ctx.Temp("moe.d_gate_up", {R, 2 * dims_.intermediate});
  const Tensor d_weights = ctx.TempAs("moe.d_row_weights", DType::kF32, {R, 1});
  const Tensor dx = ctx.Temp("moe.d_received", {R, dims_.hidden});
  const std::vector<ExpertSegment> segments = Segments(saved);
  ExpertsBackwardInput(ctx, segments, dy, w.down, d_activated);
  SwiGluBackward(ctx.ops, {.dy = d_activated,
                           .gate_up = saved.until_b.gate_up,
                           .weight = saved.until_b.row_weights,
                           .dgate_up = d_gate_up,
                           .dweight = d_weights.Reshape({R})});
  ExpertsBackwardInput(ctx, segments, d_gate_up, w.gate_up, dx);
  PushExpertGradients(ctx, saved, dy, saved.until_w.activated, w.down);
  PushExpertGradients(ctx, saved, d_gate_up, saved.until_w.received, w.gate_up);
  Combine(ctx, saved.handle, dx, d_weights, transfer);
}

void Moe::BackwardDispatch(const LayerContext& ctx, const MoeWeights& w, const RowLayout& rows, const MoeSaved& saved,
                           float balance_scale, MoeTransfer& transfer, const Tensor& dx) const {
  const MoeSaved::UntilB& b = saved.until_b;
  const int64_t T = rows.rows(), K = dims_.router.top_k;
  Receive(ctx, transfer);
  SumRows(ctx.ops, transfer.rows, b.row_of, K, dx, WriteMode::kAdd);

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
  LinearBackwardInput(ctx, d_logits, saved.until_w.x_fp32, w.gate, dx, WriteMode::kAdd);
}

}  // namespace jevons
