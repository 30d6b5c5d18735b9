#include "kernels/ops/router.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

void CheckDesc(const RouterDesc& d) {
  const bool groups_fit = d.groups > 0 && d.experts % d.groups == 0 && d.kept_groups > 0 && d.kept_groups <= d.groups;
  JEVONS_CHECK(d.experts > 0 && d.top_k > 0 && groups_fit && d.top_k <= d.experts / d.groups * d.kept_groups,
               "top %lld of %lld experts, %lld of %lld groups", static_cast<long long>(d.top_k),
               static_cast<long long>(d.experts), static_cast<long long>(d.kept_groups), static_cast<long long>(d.groups));
}

int64_t Sequences(int64_t rows, int64_t sequence_length) {
  JEVONS_CHECK(sequence_length > 0 && rows % sequence_length == 0, "%lld rows in sequences of %lld", static_cast<long long>(rows),
               static_cast<long long>(sequence_length));
  return rows / sequence_length;
}

}  // namespace

void Router(const OpContext& ctx, const RouterDesc& desc, const RouterForward& f) {
  CheckDesc(desc);
  const int64_t rows = f.logits.rows();
  ExpectMatrix("logits", f.logits, DType::kF32, rows, desc.experts);
  ExpectVector("bias", f.bias, DType::kF32, desc.experts);
  ExpectMatrix("scores", f.scores, DType::kF32, rows, desc.experts);
  ExpectVector("indices", f.indices, DType::kI32, rows * desc.top_k);
  ExpectVector("weights", f.weights, DType::kF32, rows * desc.top_k);
  ExpectVector("counts", f.counts, DType::kI64, desc.experts);
  Ops(ctx.stream).router(ctx, desc, f);
}

void BalanceLoss(const OpContext& ctx, const RouterDesc& desc, const Tensor& scores, int64_t sequence_length,
                 const Tensor& fractions, const Tensor& losses) {
  CheckDesc(desc);
  const int64_t sequences = Sequences(scores.rows(), sequence_length);
  ExpectMatrix("scores", scores, DType::kF32, scores.rows(), desc.experts);
  ExpectMatrix("fractions", fractions, DType::kF32, sequences, desc.experts);
  ExpectVector("losses", losses, DType::kF32, sequences);
  if (sequences > 0) Ops(ctx.stream).balance_loss(ctx, desc, scores, sequence_length, fractions, losses);
}

void RouterBackward(const OpContext& ctx, const RouterDesc& desc, const RouterGrad& g) {
  CheckDesc(desc);
  const int64_t rows = g.scores.rows();
  ExpectMatrix("scores", g.scores, DType::kF32, rows, desc.experts);
  ExpectIndices(ctx, "indices", g.indices, rows * desc.top_k, 0, desc.experts);
  ExpectVector("weights", g.weights, DType::kF32, rows * desc.top_k);
  ExpectVector("dweights", g.dweights, DType::kF32, rows * desc.top_k);
  ExpectMatrix("dlogits", g.dlogits, DType::kF32, rows, desc.experts);
  if (g.fractions) ExpectMatrix("fractions", g.fractions, DType::kF32, Sequences(rows, g.sequence_length), desc.experts);
  if (rows > 0) Ops(ctx.stream).router_backward(ctx, desc, g);
}

}  // namespace jevons
