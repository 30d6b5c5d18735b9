#include "trainer/model/mtp.h"

#include "kernels/ops/elementwise.h"
#include "trainer/model/linear.h"
#include "trainer/model/norm.h"

namespace jevons {

MtpModule::Joined MtpModule::Join(const LayerContext& ctx, const MtpWeights& w, const MtpSaved& saved) const {
  const int64_t T = saved.hidden.rows(), H = saved.hidden.cols();
  const Joined joined{.rows = ctx.Temp("mtp.joined", {T, 2 * H}),
                      .embedded_rstd = ctx.TempAs("mtp.embedded_rstd", DType::kF32, {T}),
                      .hidden_rstd = ctx.TempAs("mtp.hidden_rstd", DType::kF32, {T})};
  NormForward(ctx, {layer_, "embedding of the predicted token", eps_}, saved.embedded, w.embedding_norm,
              joined.rows.Columns(0, H), joined.embedded_rstd);
  NormForward(ctx, {layer_, "hidden state of the previous module", eps_}, saved.hidden, w.hidden_norm, joined.rows.Columns(H, H),
              joined.hidden_rstd);
  return joined;
}

Phases MtpModule::Forward(const LayerContext& ctx, const MtpWeights& w, const RowLayout& rows, Tensor embedded, Tensor previous,
                          Tensor out, MtpSaved& saved, BlockStats& stats) const {
  const int64_t T = rows.rows(), S = rows.sequence_length, H = embedded.cols();
  saved.embedded = embedded;
  saved.hidden = ctx.Save("mtp.hidden", {T, H});
  for (int64_t s = 0; s < rows.sequences; ++s) Copy(ctx.ops, previous.Rows(s * (S + 1), S), saved.hidden.Rows(s * S, S));
  saved.x = ctx.Save("mtp.x", {T, H});
  saved.y = ctx.Save("mtp.y", {T, H});
  saved.y_rstd = ctx.SaveAs("mtp.y_rstd", DType::kF32, {T});
  {
    ArenaScope scope(*ctx.ops.scratch);
    LinearForward(ctx, Join(ctx, w, saved).rows, w.projection, saved.x);
  }
  co_await block_.Forward(ctx, w.block, rows, saved.x, saved.y, saved.block, stats);
  NormForward(ctx, {layer_, "output (residual stream)", eps_}, saved.y, w.out_norm, out, saved.y_rstd);
}

Phases MtpModule::BackwardInput(const LayerContext& ctx, const MtpWeights& w, const RowLayout& rows, Tensor d_out,
                                const MtpSaved& saved, float balance_scale, Tensor d_embedded, Tensor d_previous) const {
  const int64_t T = rows.rows(), S = rows.sequence_length, H = d_out.cols();
  ArenaScope scope(*ctx.ops.scratch);
  const Tensor dy = (block_.KeepsGradient(ctx, w.block) ? ctx.OnStash() : ctx).Temp("mtp.dy", {T, H});
  const Tensor dx = ctx.Stash("mtp.dx", {T, H});
  NormBackward(ctx, d_out, saved.y, w.out_norm, saved.y_rstd, dy, WriteMode::kOverwrite);
  co_await block_.BackwardInput(ctx, w.block, rows, dy, saved.block, balance_scale, dx);

  const Joined joined = Join(ctx.OnStash(), w, saved);
  const Tensor d_joined = ctx.Temp("mtp.d_joined", {T, 2 * H});
  LinearBackwardInput(ctx, dx, joined.rows, w.projection, d_joined);
  NormBackward(ctx, d_joined.Columns(0, H), saved.embedded, w.embedding_norm, joined.embedded_rstd, d_embedded,
               WriteMode::kOverwrite);
  const Tensor d_hidden = ctx.Temp("mtp.d_hidden", {T, H});
  NormBackward(ctx, d_joined.Columns(H, H), saved.hidden, w.hidden_norm, joined.hidden_rstd, d_hidden, WriteMode::kOverwrite);
  for (int64_t s = 0; s < rows.sequences; ++s) {
    const Tensor destination = d_previous.Rows(s * (S + 1), S);
    Add(ctx.ops, destination, d_hidden.Rows(s * S, S), destination);
  }
}

}  // namespace jevons
