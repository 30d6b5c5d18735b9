#include "trainer/model/head.h"

#include <algorithm>
#include <functional>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/softmax_xent.h"

namespace jevons {

int64_t HeadChunkRows(int64_t vocab) {
  return std::max<int64_t>(16, kLogitBytes / (vocab * SizeOf(DType::kF32)));
}

void HeadGradient::AddChunk(const OpContext& ops, const Tensor& d_logits, const Tensor& x) {
  if (!sum_) return;
  Gemm(ops, {.a = d_logits,
             .b = x,
             .c = sum_,
             .a_form = Form::kTransposed,
             .mode = started_ ? WriteMode::kAdd : WriteMode::kOverwrite});
  started_ = true;
}

void HeadGradient::Finish(const OpContext& ops) {
  if (started_ && target_.mode == WriteMode::kAdd) Add(ops, target_.tensor, sum_, target_.tensor);
}

namespace {

// Calls visit(x chunk, labels chunk, logits, losses, first row) for each chunk; returns the sum of what it left in losses.
double ForChunks(const LayerContext& ctx, const Tensor& head, const Tensor& x, const Tensor& labels,
                 const std::function<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&, int64_t)>& visit) {
  PhaseScope phase(ctx.timer, Phase::kHead);
  ArenaScope scope(*ctx.ops.scratch);
  const int64_t chunk = HeadChunkRows(head.rows());
  const Tensor logits = ctx.TempAs("head.logits", DType::kF32, {std::min(chunk, x.rows()), head.rows()});
  const Tensor losses = ctx.TempAs("head.losses", DType::kF32, {x.rows()});
  for (int64_t begin = 0; begin < x.rows(); begin += chunk) {
    const int64_t rows = std::min(chunk, x.rows() - begin);
    const Tensor x_chunk = x.Rows(begin, rows), logits_chunk = logits.Rows(0, rows);
    Gemm(ctx.ops, {.a = x_chunk, .b = head, .c = logits_chunk, .b_form = Form::kTransposed});
    visit(x_chunk, Tensor::Of(labels.as<int32_t>() + begin, {rows}), logits_chunk,
          Tensor::Of(losses.as<float>() + begin, {rows}), begin);
  }
  return Sum(ctx.ops, losses);
}

}  // namespace

double HeadLoss(const LayerContext& ctx, const Tensor& head, const Tensor& x, const Tensor& labels) {
  return ForChunks(ctx, head, x, labels,
                   [&](const Tensor&, const Tensor& chunk_labels, const Tensor& logits, const Tensor& losses, int64_t) {
                     CrossEntropy(ctx.ops, logits, chunk_labels, losses);
                   });
}

double HeadLossAndGradient(const LayerContext& ctx, const Tensor& head, const Tensor& x, const Tensor& labels, float scale,
                           const Tensor& dx, HeadGradient& gradient) {
  return ForChunks(ctx, head, x, labels,
                   [&](const Tensor& x_chunk, const Tensor& chunk_labels, const Tensor& logits, const Tensor& losses,
                       int64_t begin) {
                     ArenaScope scope(*ctx.ops.scratch);
                     const Tensor d_logits =
                         ctx.dtype == DType::kF32 ? logits : ctx.Temp("head.d_logits", logits.shape);
                     CrossEntropyWithGrad(ctx.ops, logits, chunk_labels, scale, losses, d_logits);
                     Gemm(ctx.ops, {.a = d_logits, .b = head, .c = dx.Rows(begin, x_chunk.rows())});
                     gradient.AddChunk(ctx.ops, d_logits, x_chunk);
                   });
}

}  // namespace jevons
