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

AttentionDesc Mla::Core(const RowLayout& rows, const CoreTensors& t) const {
  return {.heads = dims_.heads,
          .nope_dim = dims_.nope,
          .rope_dim = dims_.rope,
          .value_dim = dims_.value,
          .sequence_length = rows.sequence_length,
          .scale = scale_,
          .q = t.q,
          .kv = t.kv,
          .k_rope = t.kv_latent.Columns(dims_.kv_rank, dims_.rope),
          .document_start = rows.document_start,
          .documents = rows.documents,
          .longest_document = rows.longest_document,
          .o = t.o,
          .lse = t.lse};
}

Mla::Normed Mla::NormLatents(const LayerContext& ctx, const MlaWeights& w, const MlaSaved& saved) const {
  const Tensor &q_latent = saved.until_b.q_latent, &kv_latent = saved.until_b.kv_latent;
  const int64_t T = kv_latent.rows();
  Normed normed;
  if (dims_.query_rank > 0) {
    normed.q = ctx.Temp("mla.q_normed", {T, dims_.query_rank});
    normed.q_rstd = ctx.TempAs("mla.q_rstd", DType::kF32, {T});
    NormForward(ctx, {layer_, "self_attn.q_a_proj output", kLatentNormEps}, q_latent, w.q_a_norm, normed.q, normed.q_rstd);
  }
  normed.kv = ctx.Temp("mla.kv_normed", {T, dims_.kv_rank});
  normed.kv_rstd = ctx.TempAs("mla.kv_rstd", DType::kF32, {T});
  NormForward(ctx, {layer_, "self_attn.kv_a_proj output", kLatentNormEps}, kv_latent.Columns(0, dims_.kv_rank), w.kv_a_norm,
              normed.kv, normed.kv_rstd);
  return normed;
}

void Mla::UpProject(const LayerContext& ctx, const MlaWeights& w, const RowLayout& rows, const Tensor& x, const Normed& normed,
                    const Tensor& q, const Tensor& kv) const {
  if (dims_.query_rank > 0)
    LinearForward(ctx, normed.q, w.q_b, q);
  else
    LinearForward(ctx, x, w.q, q);
  Rope(ctx.ops, QueryRope(q, rows.sequence_length));
  LinearForward(ctx, normed.kv, w.kv_b, kv);
}

void Mla::Forward(const LayerContext& ctx, const MlaWeights& w, const RowLayout& rows, const Tensor& x, const Tensor& y,
                  MlaSaved& saved) const {
  ArenaScope scope(*ctx.ops.scratch);
  const int64_t T = rows.rows();
  const bool fp8 = w.o.plan.fp8, again = ctx.recompute_up_projections;
  MlaSaved::UntilB& b = saved.until_b;
  if (dims_.query_rank > 0) b.q_latent = ctx.Save("mla.q_latent", {T, dims_.query_rank});
  b.kv_latent = ctx.Save("mla.kv_latent", {T, dims_.kv_rank + dims_.rope});
  const Shape q_shape = {T, dims_.query_width()}, kv_shape = {T, dims_.kv_width()};
  const Tensor q = again ? ctx.Temp("mla.q", q_shape) : ctx.Save("mla.q", q_shape);
  const Tensor kv = again ? ctx.Temp("mla.kv", kv_shape) : ctx.Save("mla.kv", kv_shape);
  CachedActivation& o = saved.until_w.o;
  o = CachedActivation(ctx, *ctx.memory->until_w, "mla.o", {T, dims_.heads * dims_.value}, fp8);
  b.lse = ctx.SaveAs("mla.lse", DType::kF32, {T, dims_.heads});

  const Activation input = AsInput(ctx, x, w.kv_a.plan);
  if (dims_.query_rank > 0) LinearForward(ctx, input, w.q_a, b.q_latent);
  LinearForward(ctx, input, w.kv_a, b.kv_latent);
  UpProject(ctx, w, rows, x, NormLatents(ctx, w, saved), q, kv);
  Rope(ctx.ops, KeyRope(b.kv_latent, rows.sequence_length));
  if (!again) {
    b.q = q;
    b.kv = kv;
  }
  Attention(ctx.ops, Core(rows, {.q = q, .kv = kv, .kv_latent = b.kv_latent, .o = o.value(), .lse = b.lse}));
  LinearForward(ctx, o.value(), w.o, y);
  o.Keep(ctx, "mla.o", kAttentionCache);
}

void Mla::BackwardInput(const LayerContext& ctx, const MlaWeights& w, const RowLayout& rows, const Tensor& dy, const Tensor& x,
                        const MlaSaved& saved, const Tensor& dx) const {
  ArenaScope scope(*ctx.ops.scratch);
  const int64_t T = rows.rows();
  const MlaSaved::UntilB& b = saved.until_b;
  const Normed normed = NormLatents(ForInput(ctx, w.kv_b.plan), w, saved);
  const Tensor o = saved.until_w.o.Restore(ForInput(ctx, w.o.plan), "mla.o");
  const Activation input = KeptInput(ctx, x, w.kv_a.plan);
  Tensor q = b.q, kv = b.kv;
  if (!q) {
    q = ctx.Temp("mla.q", {T, dims_.query_width()});
    kv = ctx.Temp("mla.kv", {T, dims_.kv_width()});
    LayerContext uncounted = ctx;  // forward counted what is lost
    uncounted.fp8 = nullptr;
    UpProject(uncounted, w, rows, x, normed, q, kv);
  }

  const Tensor d_o = ctx.Temp("mla.d_o", {T, dims_.heads * dims_.value});
  LinearBackwardInput(ctx, dy, o, w.o, d_o);

  const LayerContext gradients = ForGradient(ctx, w.kv_b.plan);
  const Tensor dq = gradients.Temp("mla.dq", {T, dims_.query_width()});
  const Tensor dkv = gradients.Temp("mla.dkv", {T, dims_.kv_width()});
  const Tensor d_kv_latent = gradients.Temp("mla.d_kv_latent", {T, dims_.kv_rank + dims_.rope});
  AttentionBackward(ctx.ops, Core(rows, {.q = q, .kv = kv, .kv_latent = b.kv_latent, .o = o, .lse = b.lse}),
                    {.d_o = d_o, .dq = dq, .dkv = dkv, .dk_rope = d_kv_latent.Columns(dims_.kv_rank, dims_.rope)});
  RopeBackward(ctx.ops, QueryRope(dq, rows.sequence_length));
  RopeBackward(ctx.ops, KeyRope(d_kv_latent, rows.sequence_length));

  const Tensor d_kv_normed = ctx.Temp("mla.d_kv_normed", {T, dims_.kv_rank});
  LinearBackwardInput(ctx, dkv, normed.kv, w.kv_b, d_kv_normed);
  NormBackward(ctx, d_kv_normed, b.kv_latent.Columns(0, dims_.kv_rank), w.kv_a_norm, normed.kv_rstd,
               d_kv_latent.Columns(0, dims_.kv_rank), WriteMode::kOverwrite);
  LinearBackwardInput(ctx, d_kv_latent, input, w.kv_a, dx);

  if (dims_.query_rank > 0) {
    const Tensor d_q_normed = ctx.Temp("mla.d_q_normed", {T, dims_.query_rank});
    const Tensor d_q_latent = gradients.Temp("mla.d_q_latent", {T, dims_.query_rank});
    LinearBackwardInput(ctx, dq, normed.q, w.q_b, d_q_normed);
    NormBackward(ctx, d_q_normed, b.q_latent, w.q_a_norm, normed.q_rstd, d_q_latent, WriteMode::kOverwrite);
    LinearBackwardInput(ctx, d_q_latent, input, w.q_a, dx, WriteMode::kAdd);
  } else {
    LinearBackwardInput(ctx, dq, input, w.q, dx, WriteMode::kAdd);
  }
}

}  // namespace jevons
