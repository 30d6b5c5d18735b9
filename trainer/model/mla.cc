#include "trainer/model/mla.h"

#include "trainer/model/linear.h"
#include "trainer/model/norm.h"

namespace jevons {

RopeDesc Mla::QueryRope(const Tensor& q, int64_t sequence_length) const {
  return {.x = q,
          .heads = dims_.heads,
          .head_dim = dims_.nope + dims_.rope,
          .offset = dims_.nope,
          .cos = cos_,
          .sin = sin_,
          .sequence_length = sequence_length};
}

RopeDesc Mla::KeyRope(const Tensor& kv_latent, int64_t sequence_length) const {
  return {.x = kv_latent.Columns(dims_.kv_rank, dims_.rope),
          .heads = 1,
          .head_dim = dims_.rope,
          .offset = 0,
          .cos = cos_,
          .sin = sin_,
          .sequence_length = sequence_length};
}

AttentionDesc Mla::Core(const RowLayout& rows, const MlaSaved& saved) const {
  return {.heads = dims_.heads,
          .nope_dim = dims_.nope,
          .rope_dim = dims_.rope,
          .value_dim = dims_.value,
          .sequence_length = rows.sequence_length,
          .scale = scale_,
          .q = saved.until_b.q,
          .kv = saved.until_b.kv,
          .k_rope = saved.until_b.kv_latent.Columns(dims_.kv_rank, dims_.rope),
          .document_start = rows.document_start,
          .o = saved.until_w.o,
          .lse = saved.until_b.lse};
}

void Mla::Forward(const LayerContext& ctx, const MlaWeights& w, const RowLayout& rows, const Tensor& x, const Tensor& y,
                  MlaSaved& saved) const {
  const int64_t T = rows.rows();
  MlaSaved::UntilB& b = saved.until_b;
  MlaSaved::UntilW& until_w = saved.until_w;
  until_w.x = x;
  b.q = ctx.Save("mla.q", {T, dims_.query_width()});
  if (dims_.query_rank > 0) {
    b.q_latent = ctx.Save("mla.q_latent", {T, dims_.query_rank});
    b.q_rstd = ctx.SaveAs("mla.q_rstd", DType::kF32, {T});
    until_w.q_normed = ctx.Save("mla.q_normed", {T, dims_.query_rank});
    LinearForward(ctx, x, w.q_a, b.q_latent);
    NormForward(ctx, {layer_, "self_attn.q_a_proj output", kLatentNormEps}, b.q_latent, w.q_a_norm, until_w.q_normed, b.q_rstd);
    LinearForward(ctx, until_w.q_normed, w.q_b, b.q);
  } else {
    LinearForward(ctx, x, w.q, b.q);
  }
  Rope(ctx.ops, QueryRope(b.q, rows.sequence_length));

  b.kv_latent = ctx.Save("mla.kv_latent", {T, dims_.kv_rank + dims_.rope});
  b.kv_rstd = ctx.SaveAs("mla.kv_rstd", DType::kF32, {T});
  until_w.kv_normed = ctx.Save("mla.kv_normed", {T, dims_.kv_rank});
  b.kv = ctx.Save("mla.kv", {T, dims_.kv_width()});
  LinearForward(ctx, x, w.kv_a, b.kv_latent);
  NormForward(ctx, {layer_, "self_attn.kv_a_proj output", kLatentNormEps}, b.kv_latent.Columns(0, dims_.kv_rank), w.kv_a_norm,
              until_w.kv_normed, b.kv_rstd);
  LinearForward(ctx, until_w.kv_normed, w.kv_b, b.kv);
  Rope(ctx.ops, KeyRope(b.kv_latent, rows.sequence_length));

  until_w.o = ctx.Save("mla.o", {T, dims_.heads * dims_.value});
  b.lse = ctx.SaveAs("mla.lse", DType::kF32, {T, dims_.heads});
  Attention(ctx.ops, Core(rows, saved));
  LinearForward(ctx, until_w.o, w.o, y);
}

void Mla::BackwardInput(const LayerContext& ctx, const MlaWeights& w, const RowLayout& rows, const Tensor& dy,
                        const MlaSaved& saved, const Tensor& dx) const {
  const int64_t T = rows.rows();
  const MlaSaved::UntilB& b = saved.until_b;
  const MlaSaved::UntilW& until_w = saved.until_w;

  const Tensor d_o = ctx.Temp("mla.d_o", {T, dims_.heads * dims_.value});
  LinearBackwardInput(ctx, dy, until_w.o, w.o, d_o);

  const Tensor dq = ctx.Temp("mla.dq", {T, dims_.query_width()});
  const Tensor dkv = ctx.Temp("mla.dkv", {T, dims_.kv_width()});
  const Tensor d_kv_latent = ctx.Temp("mla.d_kv_latent", {T, dims_.kv_rank + dims_.rope});
  AttentionBackward(ctx.ops, Core(rows, saved),
                    {.d_o = d_o, .dq = dq, .dkv = dkv, .dk_rope = d_kv_latent.Columns(dims_.kv_rank, dims_.rope)});
  RopeBackward(ctx.ops, QueryRope(dq, rows.sequence_length));
  RopeBackward(ctx.ops, KeyRope(d_kv_latent, rows.sequence_length));

  const Tensor d_kv_normed = ctx.Temp("mla.d_kv_normed", {T, dims_.kv_rank});
  LinearBackwardInput(ctx, dkv, until_w.kv_normed, w.kv_b, d_kv_normed);
  NormBackward(ctx, d_kv_normed, b.kv_latent.Columns(0, dims_.kv_rank), w.kv_a_norm, b.kv_rstd,
               d_kv_latent.Columns(0, dims_.kv_rank), WriteMode::kOverwrite);
  LinearBackwardInput(ctx, d_kv_latent, until_w.x, w.kv_a, dx);

  if (dims_.query_rank > 0) {
    const Tensor d_q_normed = ctx.Temp("mla.d_q_normed", {T, dims_.query_rank});
    const Tensor d_q_latent = ctx.Temp("mla.d_q_latent", {T, dims_.query_rank});
    LinearBackwardInput(ctx, dq, until_w.q_normed, w.q_b, d_q_normed);
    NormBackward(ctx, d_q_normed, b.q_latent, w.q_a_norm, b.q_rstd, d_q_latent, WriteMode::kOverwrite);
    LinearBackwardInput(ctx, d_q_latent, until_w.x, w.q_a, dx, WriteMode::kAdd);
  } else {
    LinearBackwardInput(ctx, dq, until_w.x, w.q, dx, WriteMode::kAdd);
  }
}

}  // namespace jevons
