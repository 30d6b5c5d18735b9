#include "trainer/model/block.h"

#include "kernels/ops/elementwise.h"
#include "trainer/model/norm.h"

namespace jevons {

Block::Block(int layer, float norm_eps, const Mla& attention, const Moe* moe)
    : layer_(layer), eps_(norm_eps), attention_(attention), moe_(moe) {}

void Block::Forward(const LayerContext& ctx, const BlockWeights& w, const RowLayout& rows, const Tensor& x,
                    const Tensor& y, BlockSaved& saved, BlockStats& stats) const {
  const Shape hidden = x.shape;
  const int64_t T = rows.rows();
  saved.x = x;
  saved.x_rstd = ctx.SaveAs("block.x_rstd", DType::kF32, {T});
  saved.x_normed = ctx.Save("block.x_normed", hidden);
  saved.h = ctx.Save("block.h", hidden);
  saved.h_rstd = ctx.SaveAs("block.h_rstd", DType::kF32, {T});
  saved.h_normed = ctx.Save("block.h_normed", hidden);

  ArenaScope scope(*ctx.ops.scratch);
  NormForward(ctx, {layer_, "input (residual stream)", eps_}, x, w.input_norm, saved.x_normed, saved.x_rstd);
  attention_.Forward(ctx, w.attention, rows, saved.x_normed, saved.h, saved.attention);
  Add(ctx.ops, saved.h, x, saved.h);
  NormForward(ctx, {layer_, "attention output (residual stream)", eps_}, saved.h, w.post_attention_norm, saved.h_normed,
              saved.h_rstd);
  ForwardFfn(ctx, w, rows, y, saved, stats);
  Add(ctx.ops, y, saved.h, y);
}

void Block::ForwardFfn(const LayerContext& ctx, const BlockWeights& w, const RowLayout& rows, const Tensor& y,
                       BlockSaved& saved, BlockStats& stats) const {
  if (dense()) {
    FfnForward(ctx, w.ffn, saved.h_normed, y, WriteMode::kOverwrite, saved.ffn);
    return;
  }
  MoeTransfer transfer;
  stats.balance_loss = moe_->ForwardDispatch(ctx, w.moe, rows, saved.h_normed, stats.counts, saved.moe, transfer);
  stats.received_rows = saved.moe.handle.receive_rows;
  moe_->ForwardShared(ctx, w.moe, saved.h_normed, y, saved.moe);
  moe_->ForwardExperts(ctx, w.moe, saved.moe, transfer);
  moe_->ForwardCombine(ctx, saved.moe, transfer, y);
}

void Block::BackwardInput(const LayerContext& ctx, const BlockWeights& w, const RowLayout& rows, const Tensor& dy,
                          const BlockSaved& saved, float balance_scale, const Tensor& dx) const {
  const Tensor d_normed = ctx.Temp("block.d_normed", dy.shape);
  const Tensor dh = ctx.Temp("block.dh", dy.shape);
  if (dense()) {
    FfnBackwardInput(ctx, w.ffn, dy, saved.ffn, d_normed);
  } else {
    MoeTransfer transfer;
    moe_->BackwardCombine(ctx, w.moe, dy, saved.moe, transfer);
    moe_->BackwardShared(ctx, w.moe, dy, saved.moe, d_normed);
    moe_->BackwardExperts(ctx, w.moe, saved.moe, transfer);
    moe_->BackwardDispatch(ctx, w.moe, rows, saved.moe, balance_scale, transfer, d_normed);
  }
  Copy(ctx.ops, dy, dh);
  NormBackward(ctx, d_normed, saved.h, w.post_attention_norm, saved.h_rstd, dh, WriteMode::kAdd);

  attention_.BackwardInput(ctx, w.attention, rows, dh, saved.attention, d_normed);
  Copy(ctx.ops, dh, dx);
  NormBackward(ctx, d_normed, saved.x, w.input_norm, saved.x_rstd, dx, WriteMode::kAdd);
}

}  // namespace jevons
