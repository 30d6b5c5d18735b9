#include "trainer/model/head.h"

#include <algorithm>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/softmax_xent.h"
#include "kernels/tensor/device.h"

namespace jevons {

int64_t HeadChunkRows(int64_t vocab, Device backend) {
  const int64_t bytes = backend == Device::kCuda ? kLogitBytesOnDevice : kLogitBytes;
  return std::max<int64_t>(16, bytes / (vocab * SizeOf(DType::kF32)));
}

void VisitLogits(const LayerContext& ctx, const Tensor& head, const Tensor& x,
                 const std::function<void(int64_t begin, const Tensor& logits)>& visit) {
  ArenaScope scope(*ctx.ops.scratch);
  const int64_t chunk = HeadChunkRows(head.rows(), ctx.ops.stream.backend());
  const Tensor logits = ctx.TempAs("head.logits", DType::kF32, {std::min(chunk, x.rows()), head.rows()});
  for (int64_t begin = 0; begin < x.rows(); begin += chunk) {
    const int64_t rows = std::min(chunk, x.rows() - begin);
    const Tensor logits_chunk = logits.Rows(0, rows);
    Gemm(ctx.ops, {.a = x.Rows(begin, rows), .b = head, .c = logits_chunk, .b_form = Form::kTransposed});
    visit(begin, logits_chunk);
  }
}

namespace {

// The entries of a vector [T] that belong to the rows of a chunk.
template <typename T>
Tensor Entries(const Tensor& vector, int64_t begin, const Tensor& logits) {
  return Tensor::Of(vector.as<T>() + begin, {logits.rows()});
}

}  // namespace

void HeadLoss(const LayerContext& ctx, const Tensor& head, const Tensor& x, const Tensor& labels, double* sum) {
  PhaseScope phase(ctx.timer, Phase::kHead);
  ArenaScope scope(*ctx.ops.scratch);
  const Tensor losses = ctx.TempAs("head.losses", DType::kF32, {x.rows()});
  VisitLogits(ctx, head, x, [&](int64_t begin, const Tensor& logits) {
    CrossEntropy(ctx.ops, logits, Entries<int32_t>(labels, begin, logits), Entries<float>(losses, begin, logits));
  });
  Sum(ctx.ops, losses, sum);
}

std::vector<TokenScore> HeadScores(const LayerContext& ctx, const Tensor& head, const Tensor& x,
                                   std::span<const int32_t> labels) {
  PhaseScope phase(ctx.timer, Phase::kHead);
  ArenaScope scope(*ctx.ops.scratch);
  std::vector<int32_t> places, tokens;
  for (size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] < 0) continue;
    places.push_back(static_cast<int32_t>(t));
    tokens.push_back(labels[t]);
  }
  const auto count = static_cast<int64_t>(places.size());
  const Tensor rows = ctx.TempAs("head.rows", DType::kI32, {count}), wanted = ctx.TempAs("head.labels", DType::kI32, {count});
  const Tensor losses = ctx.TempAs("head.losses", DType::kF32, {count}), scored = ctx.Temp("head.scored", {count, x.cols()});
  CopyBytes(ctx.ops.stream, places.data(), rows.data, rows.bytes());
  CopyBytes(ctx.ops.stream, tokens.data(), wanted.data, wanted.bytes());
  GatherRows(ctx.ops, x, rows, 1, scored);
  std::vector<TokenScore> scores(places.size());
  std::vector<float> values;
  VisitLogits(ctx, head, scored, [&](int64_t begin, const Tensor& logits) {
    CrossEntropy(ctx.ops, logits, Entries<int32_t>(wanted, begin, logits), Entries<float>(losses, begin, logits));
    values.resize(static_cast<size_t>(logits.size()));
    Fetch(ctx.ops.stream, logits.data, values.data(), logits.bytes());
    for (int64_t r = 0; r < logits.rows(); ++r) {
      const auto row = values.begin() + r * logits.cols();
      const auto i = static_cast<size_t>(begin + r);
      scores[i].likeliest = std::max_element(row, row + logits.cols()) - row == tokens[i];
    }
  });
  values.resize(places.size());
  Fetch(ctx.ops.stream, losses.data, values.data(), losses.bytes());
  for (size_t i = 0; i < scores.size(); ++i) scores[i].logprob = -values[i];
  return scores;
}

void HeadLossAndGradient(const LayerContext& ctx, const Weight& head, const Tensor& x, const Tensor& labels, float scale,
                         const Tensor& dx, double* sum) {
  PhaseScope phase(ctx.timer, Phase::kHead);
  ArenaScope scope(*ctx.ops.scratch);
  const Tensor losses = ctx.TempAs("head.losses", DType::kF32, {x.rows()});
  const auto visit_all = [&](const Tensor& dw, WriteMode mode) {
    VisitLogits(ctx, head.value, x, [&](int64_t begin, const Tensor& logits) {
      ArenaScope chunk_scope(*ctx.ops.scratch);
      const Tensor d_logits = ctx.dtype == DType::kF32 ? logits : ctx.Temp("head.d_logits", logits.shape);
      CrossEntropyWithGrad(ctx.ops, logits, Entries<int32_t>(labels, begin, logits), scale, Entries<float>(losses, begin, logits),
                           d_logits);
      Gemm(ctx.ops, {.a = d_logits, .b = head.value, .c = dx.Rows(begin, logits.rows())});
      if (dw)
        Gemm(ctx.ops, {.a = d_logits,
                       .b = x.Rows(begin, logits.rows()),
                       .c = dw,
                       .a_form = Form::kTransposed,
                       .mode = begin > 0 ? WriteMode::kAdd : mode});
    });
  };
  if (head.grad.sum && x.rows() > 0)
    Contribute(ctx.ops, head.grad, visit_all);
  else
    visit_all(Tensor(), WriteMode::kOverwrite);
  Sum(ctx.ops, losses, sum);
}

}  // namespace jevons
