#include "trainer/model/block.h"

#include "kernels/ops/elementwise.h"
#include "trainer/model/norm.h"

namespace jevons {

Block::Block(int layer, float norm_eps, const Mla& attention, const Moe* moe)
    : layer_(layer), eps_(norm_eps), attention_(attention), moe_(moe) {}

void Block::NormInput(const LayerContext& ctx, const BlockWeights& w, const Tensor& x, const Tensor& normed,
                      const Tensor& rstd) const {
  NormForward(ctx, {layer_, "input (residual stream)", eps_}, x, w.input_norm, normed, rstd);
}

void Block::NormHidden(const LayerContext& ctx, const BlockWeights& w, const Tensor& h, const Tensor& normed,
                       const Tensor& rstd) const {
  NormForward(ctx, {layer_, "attention output (residual stream)", eps_}, h, w.post_attention_norm, normed, rstd);
}

Phases Block::Forward(const LayerContext& outer, const BlockWeights& w, const RowLayout& rows, Tensor x, Tensor y,
                      BlockSaved& saved, BlockStats& stats) const {
  const LayerContext ctx = outer.InLayer(layer_);
  saved.x = x;
  saved.h = ctx.Save("block.h", x.shape);

  const ArenaScope scope(*ctx.ops.scratch);
  const Tensor normed = ctx.Temp("block.normed", x.shape), rstd = ctx.TempAs("block.rstd", DType::kF32, {rows.rows()});
  NormInput(ctx, w, x, normed, rstd);
  attention_.Forward(ctx, w.attention, rows, normed, saved.h, saved.attention);
  Add(ctx.ops, saved.h, x, saved.h);
  NormHidden(ctx, w, saved.h, normed, rstd);
  MoeTransfer transfer;
  if (!dense()) moe_->ForwardGate(ctx, w.moe, rows, normed, stats.counts, stats.balance_loss, saved.moe);
  co_await NextPhase();
  if (!dense()) {
    moe_->ForwardDispatch(ctx, w.moe, normed, saved.moe, transfer);
    stats.received_rows = saved.moe.handle.receive_rows;
    moe_->ForwardShared(ctx, w.moe, normed, y, saved.moe);
  }
  co_await NextPhase();
  if (!dense()) moe_->Advance(ctx, saved.moe, transfer);
  co_await NextPhase();
  if (dense())
    FfnForward(ctx, w.ffn, normed, y, WriteMode::kOverwrite, saved.ffn);
  else
    moe_->ForwardExperts(ctx, w.moe, saved.moe, transfer);
  co_await NextPhase();
  if (!dense()) moe_->Advance(ctx, saved.moe, transfer);
  co_await NextPhase();
  if (!dense()) moe_->ForwardCombine(ctx, saved.moe, transfer, y);
  Add(ctx.ops, y, saved.h, y);
}

bool Block::KeepsGradient(const LayerContext& ctx, const BlockWeights& w) const {
  const Weight& reader =
      dense() ? w.ffn.down : w.moe.shared.down;  // none where there are no shared experts: rows are copied to the others
  return reader.value.shape.rank > 0 && jevons::KeepsGradient(ctx, reader.plan);
}

Phases Block::BackwardInput(const LayerContext& outer, const BlockWeights& w, const RowLayout& rows, Tensor dy,
                            const BlockSaved& saved, float balance_scale, Tensor dx) const {
  const LayerContext ctx = outer.InLayer(layer_);
  const ArenaScope scope(*ctx.ops.scratch);
  const Tensor d_normed = ctx.Temp("block.d_normed", dy.shape);
  const Tensor dh = ForGradient(ctx, w.attention.o.plan).Temp("block.dh", dy.shape);
  const Weight& up = dense() ? w.ffn.gate_up : w.moe.shared.gate_up;
  const Tensor h_normed = (up.value.shape.rank > 0 ? ForInput(ctx, up.plan) : ctx).Temp("block.normed", dy.shape);
  const Tensor x_normed = ForInput(ctx, w.attention.kv_a.plan).Temp("block.normed", dy.shape);
  const Tensor rstd = ctx.TempAs("block.rstd", DType::kF32, {rows.rows()});
  MoeTransfer transfer;
  if (!dense()) moe_->BackwardCombine(ctx, w.moe, dy, saved.moe, transfer);
  NormHidden(ctx, w, saved.h, h_normed, rstd);
  co_await NextPhase();
  if (!dense()) {
    moe_->BackwardShared(ctx, w.moe, dy, h_normed, saved.moe, d_normed);
    moe_->Advance(ctx, saved.moe, transfer);
  }
  co_await NextPhase();
  if (dense())
    FfnBackwardInput(ctx, w.ffn, dy, h_normed, saved.ffn, d_normed);
  else
    moe_->BackwardExperts(ctx, w.moe, saved.moe, transfer);
  co_await NextPhase();
  if (!dense()) moe_->AdvanceExperts(ctx, w.moe, saved.moe, transfer);
  co_await NextPhase();
  if (!dense()) moe_->BackwardDispatch(ctx, w.moe, rows, h_normed, saved.moe, balance_scale, transfer, d_normed);
  Copy(ctx.ops, dy, dh);
  NormBackward(ctx, d_normed, saved.h, w.post_attention_norm, rstd, dh, WriteMode::kAdd);
  co_await NextPhase();
  NormInput(ctx, w, saved.x, x_normed, rstd);
  attention_.BackwardInput(ctx, w.attention, rows, dh, x_normed, saved.attention, d_normed);
  Copy(ctx.ops, dh, dx);
  NormBackward(ctx, d_normed, saved.x, w.input_norm, rstd, dx, WriteMode::kAdd);
}

}  // namespace jevons
