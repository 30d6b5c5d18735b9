#include "kernels/ops/attention.h"

#include "kernels/ops/expect.h"
#include "kernels/ops/op_table.h"

namespace jevons {
namespace {

void CheckDocuments(const OpContext& ctx, const AttentionDesc& d) {
  if (!d.document_start || ctx.stream.device != Device::kCpu) return;
  const int32_t* start = d.document_start.as<int32_t>();
  for (int64_t t = 0; t < d.q.rows(); ++t)
    JEVONS_CHECK(start[t] >= 0 && start[t] <= t % d.sequence_length, "document_start[%lld] = %d at position %lld",
                 static_cast<long long>(t), start[t], static_cast<long long>(t % d.sequence_length));
}

void CheckForward(const OpContext& ctx, const AttentionDesc& d) {
  const int64_t rows = d.q.rows();
  const DType dtype = d.q.dtype;
  JEVONS_CHECK(d.heads > 0 && d.nope_dim >= 0 && d.rope_dim >= 0 && d.nope_dim + d.rope_dim > 0 && d.value_dim > 0);
  JEVONS_CHECK(d.sequence_length > 0 && rows % d.sequence_length == 0, "%lld rows in sequences of %lld",
               static_cast<long long>(rows), static_cast<long long>(d.sequence_length));
  ExpectReal("q", d.q);
  ExpectMatrix("q", d.q, dtype, rows, d.heads * (d.nope_dim + d.rope_dim));
  ExpectMatrix("kv", d.kv, dtype, rows, d.heads * (d.nope_dim + d.value_dim));
  ExpectMatrix("k_rope", d.k_rope, dtype, rows, d.rope_dim);
  ExpectMatrix("o", d.o, dtype, rows, d.heads * d.value_dim);
  ExpectMatrix("lse", d.lse, DType::kF32, rows, d.heads);
  if (d.document_start) ExpectVector("document_start", d.document_start, DType::kI32, rows);
  CheckDocuments(ctx, d);
}

}  // namespace

void Attention(const OpContext& ctx, const AttentionDesc& desc) {
  CheckForward(ctx, desc);
  if (desc.q.rows() > 0) Ops(ctx.stream).attention(ctx, desc);
}

void AttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad) {
  CheckForward(ctx, desc);
  const DType dtype = desc.q.dtype;
  ExpectMatrix("d_o", grad.d_o, dtype, desc.o.rows(), desc.o.cols());
  ExpectMatrix("dq", grad.dq, dtype, desc.q.rows(), desc.q.cols());
  ExpectMatrix("dkv", grad.dkv, dtype, desc.kv.rows(), desc.kv.cols());
  ExpectMatrix("dk_rope", grad.dk_rope, dtype, desc.k_rope.rows(), desc.k_rope.cols());
  if (desc.q.rows() > 0) Ops(ctx.stream).attention_backward(ctx, desc, grad);
}

}  // namespace jevons
