#include "trainer/model/moe.h"

#include <numeric>
#include <vector>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/swiglu.h"
#include "trainer/model/linear.h"

namespace jevons {

bool Moe::local() const { return dispatcher_.local_experts().size() == dims_.router.experts; }

void Moe::Send(bool forth, const LayerContext& ctx, const DispatchHandle& handle, const Tensor& rows, const Tensor& values,
               MoeTransfer& transfer, Arena& destination) const {
  transfer = {.rows = rows, .row_values = values, .rows_request = {}, .values_request = {}};
  if (local()) return;
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  const int64_t arriving = forth ? handle.receive_rows : handle.send_rows;
  auto begin = [&](const Tensor& send, const Tensor& receive) {
    return forth ? dispatcher_.BeginDispatch(handle, send, receive) : dispatcher_.BeginCombine(handle, send, receive);
  };
  transfer.rows = destination.Allocate("moe.received", rows.dtype, {arriving, dims_.hidden});
  transfer.rows_request = begin(rows, transfer.rows);
  if (!values) return;
  transfer.row_values = destination.Allocate("moe.received_values", DType::kF32, {arriving, 1});
  transfer.values_request = begin(values, transfer.row_values);
}

void Moe::Receive(const LayerContext& ctx, MoeTransfer& transfer) const {
  PhaseScope phase(ctx.timer, Phase::kDispatch);
  if (transfer.rows_request.id >= 0) dispatcher_.Finish(transfer.rows_request);
  if (transfer.values_request.id >= 0) dispatcher_.Finish(transfer.values_request);
  transfer.rows_request = transfer.values_request = {};
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
  // Where nothing travels, the sorted rows are what the experts keep for their weight gradients.
  Arena& sorted = local() ? *ctx.saved : *ctx.ops.scratch;
  const Tensor send = sorted.Allocate("moe.sorted", x.dtype, {T * K, dims_.hidden});
  const Tensor send_weights = sorted.Allocate("moe.sorted_weights", DType::kF32, {T * K, 1});
  GatherRows(ctx.ops, x, b.pair_of, K, send);
  GatherRows(ctx.ops, b.weights.Reshape({T * K, 1}), b.pair_of, 1, send_weights);
  Send(true, ctx, saved.handle, send, send_weights, transfer, *ctx.saved);
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
  Send(false, ctx, saved.handle, results, Tensor(), transfer, *ctx.ops.scratch);
}

void Moe::ForwardCombine(const LayerContext& ctx, const MoeSaved& saved, MoeTransfer& transfer, const Tensor& y) const {
  Receive(ctx, transfer);
  SumRows(ctx.ops, transfer.rows, saved.until_b.row_of, dims_.router.top_k, y, WriteMode::kAdd);
}

void Moe::BackwardCombine(const LayerContext& ctx, const Tensor& dy, const MoeSaved& saved, MoeTransfer& transfer) const {
  const Tensor send = ctx.Temp("moe.d_sorted", {saved.handle.send_rows, dims_.hidden});
  GatherRows(ctx.ops, dy, saved.until_b.pair_of, dims_.router.top_k, send);
  Send(true, ctx, saved.handle, send, Tensor(), transfer, *ctx.ops.scratch);
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
  Send(false, ctx, saved.handle, dx, d_weights, transfer, *ctx.ops.scratch);
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
