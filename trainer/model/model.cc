#include "trainer/model/model.h"

#include <algorithm>
#include <cmath>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/embedding.h"
#include "kernels/tensor/device.h"
#include "trainer/model/head.h"
#include "trainer/model/norm.h"

namespace jevons {

float AttentionScale(const AttentionConfig& attention) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(attention.nope_dim() + attention.rope_dim()));
  const YarnConfig& yarn = attention.yarn();
  if (yarn.factor() <= 1) return static_cast<float>(scale);
  const double mscale = 0.1 * yarn.mscale() * std::log(yarn.factor()) + 1.0;
  return static_cast<float>(scale * mscale * mscale);
}

RopeScaling RopeScalingOf(const YarnConfig& yarn) {
  return {.factor = yarn.factor(),
          .beta_fast = yarn.beta_fast(),
          .beta_slow = yarn.beta_slow(),
          .original_length = yarn.original_length(),
          .magnitude = yarn.attention_factor()};
}

void CopyPositions(const OpContext& ops, const Tensor& from, int64_t shift, int64_t positions, const Tensor& to) {
  Copy(ops, from.Columns(shift, positions), to.Reshape({from.rows(), positions}));
}

void EmbeddingGradient(const LayerContext& ctx, const Tensor& dy, const Tensor& ids, const GradientSum& gradient) {
  if (!gradient.sum || dy.rows() == 0) return;
  if (gradient.exact())
    EmbeddingBackward(ctx.ops, dy, ids, *gradient.format, gradient.sum, gradient.NextMode(), gradient.flag);
  else
    EmbeddingBackward(ctx.ops, dy, ids, gradient.sum, gradient.NextMode());
}

LossSums LossSums::Of(std::span<const double> terms, int64_t depth) {
  LossSums sums{.main = terms[0]};
  for (const double mtp : terms.subspan(1, static_cast<size_t>(depth))) sums.mtp += mtp;
  for (const double balance : terms.subspan(1 + static_cast<size_t>(depth))) sums.balance += balance;
  return sums;
}

Model::Model(const ModelConfig& model, int64_t sequence_length, Dispatcher& dispatcher, const Stream& stream)
    : config_(model),
      mla_{.hidden = model.hidden_size(),
           .heads = model.attention().heads(),
           .query_rank = model.attention().query_rank(),
           .kv_rank = model.attention().kv_rank(),
           .nope = model.attention().nope_dim(),
           .rope = model.attention().rope_dim(),
           .value = model.attention().value_dim()},
      attention_scale_(AttentionScale(model.attention())),
      constants_("constants", 2 * Arena::SliceBytes(DType::kF32, {sequence_length, model.attention().rope_dim() / 2}),
                 stream.device) {
  const Shape table = {sequence_length, mla_.rope / 2};
  rope_cos_ = constants_.Allocate("rope.cos", DType::kF32, table);
  rope_sin_ = constants_.Allocate("rope.sin", DType::kF32, table);
  const Staging cos(Device::kCpu, rope_cos_.bytes()), sin(Device::kCpu, rope_sin_.bytes());
  FillRopeTable(model.attention().rope_theta(), mla_.rope, RopeScalingOf(model.attention().yarn()),
                Tensor(cos.data(), DType::kF32, table), Tensor(sin.data(), DType::kF32, table));
  CopyBytes(stream, cos.data(), rope_cos_.data, rope_cos_.bytes());
  CopyBytes(stream, sin.data(), rope_sin_.data, rope_sin_.bytes());
  Synchronize(stream);

  const MoeConfig& moe = model.moe();
  moe_ = std::make_unique<Moe>(MoeDims{.router = {.experts = moe.routed_experts(),
                                                  .top_k = moe.top_k(),
                                                  .groups = moe.groups(),
                                                  .kept_groups = moe.kept_groups(),
                                                  .route_scale = static_cast<float>(moe.route_scale()),
                                                  .normalize = moe.normalize_weights()},
                                       .hidden = model.hidden_size(),
                                       .intermediate = moe.intermediate_size(),
                                       .shared_intermediate = moe.shared_experts() * moe.intermediate_size()},
                               dispatcher);
  for (int layer = 0; layer < model.layers(); ++layer) blocks_.push_back(MakeBlock(layer, layer < model.dense_layers()));
  for (int k = 0; k < model.mtp().depth(); ++k) {
    const int layer = static_cast<int>(model.layers()) + k;
    mtp_.emplace_back(layer, static_cast<float>(model.norm_eps()), MakeBlock(layer, false));
  }
  moe_layers_ = model.layers() - std::min(model.layers(), model.dense_layers()) + model.mtp().depth();
}

Block Model::MakeBlock(int layer, bool dense) const {
  const auto eps = static_cast<float>(config_.norm_eps());
  return Block(layer, eps, Mla(mla_, layer, attention_scale_, rope_cos_, rope_sin_), dense ? nullptr : moe_.get());
}

int64_t Model::EvenRows(Range layers, bool modules, int64_t sequence_length) const {
  const Range with_experts = {std::max<int64_t>(layers.begin, config_.dense_layers()),
                              std::max<int64_t>(layers.end, config_.dense_layers())};
  int64_t tokens = with_experts.size() * sequence_length;
  for (int64_t k = 1; modules && k <= static_cast<int64_t>(mtp_.size()); ++k) tokens += sequence_length - k;
  return tokens * config_.moe().top_k();
}

RowLayout Model::RowsOf(const LayerContext& ctx, const MicroBatch& batch, int64_t k) const {
  const int64_t positions = batch.sequence_length - k;
  RowLayout rows{.sequences = batch.sequences, .sequence_length = positions};
  if (!batch.document_start) return rows;
  rows.document_start = ctx.SaveAs("document_start", DType::kI32, {rows.rows()});
  rows.documents = batch.documents;
  rows.longest_document = batch.longest_document;
  CopyPositions(ctx.ops, batch.document_start, 0, positions, rows.document_start);
  return rows;
}

Tensor Model::Ids(const LayerContext& ctx, const MicroBatch& batch, int64_t k) const {
  const int64_t positions = batch.sequence_length - k;
  const Tensor ids = ctx.SaveAs("embedding.ids", DType::kI32, {batch.sequences * positions});
  CopyPositions(ctx.ops, batch.tokens, k, positions, ids);
  return ids;
}

Tensor Model::Embedded(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch, int64_t k) const {
  const Tensor ids = Ids(ctx, batch, k), x = ctx.Temp("embedding.rows", {ids.size(), config_.hidden_size()});
  Embedding(ctx.ops, weights.embedding.value, ids, x);
  return x;
}

void Model::FinalNorm(const LayerContext& ctx, const ModelWeights& weights, const Tensor& x, const Tensor& y,
                      const Tensor& rstd) const {
  NormForward(ctx, {static_cast<int>(config_.layers()), "final hidden state", static_cast<float>(config_.norm_eps())}, x,
              weights.final_norm, y, rstd);
}

namespace {

// Where a pass that nobody asks for figures leaves them: on scratch.
BlockStats UnreadStats(const LayerContext& ctx, int64_t experts) {
  return {.balance_loss = static_cast<double*>(ctx.TempAs("hidden.balance", DType::kI64, {1}).data),
          .counts = ctx.TempAs("hidden.counts", DType::kI64, {experts}),
          .received_rows = 0};
}

}  // namespace

Tensor Model::ForwardBlocks(const LayerContext& ctx, const ModelWeights& weights, Range layers, const RowLayout& rows,
                            const Tensor& x, const Tensor& y) const {
  const ArenaScope scratch_scope(*ctx.ops.scratch);
  BlockStats stats = UnreadStats(ctx, config_.moe().routed_experts());
  Tensor from = x, to = y;
  for (int64_t layer = layers.begin; layer < layers.end; ++layer) {
    const MicroScope scope(*ctx.memory);
    BlockSaved saved;
    block(layer).Forward(ctx, weights.blocks[static_cast<size_t>(layer)], rows, from, to, saved, stats).Finish();
    std::swap(from, to);
  }
  return from;
}

void Model::ForwardEnd(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch, const Tensor& x,
                       std::span<const Tensor> hidden) const {
  const ArenaScope scratch_scope(*ctx.ops.scratch);
  BlockStats stats = UnreadStats(ctx, config_.moe().routed_experts());
  FinalNorm(ctx, weights, x, hidden[0], ctx.TempAs("final.rstd", DType::kF32, {x.rows()}));
  for (size_t k = 1; k < hidden.size(); ++k) {
    const MicroScope scope(*ctx.memory);
    const ArenaScope scratch_module(*ctx.ops.scratch);
    const auto shift = static_cast<int64_t>(k);
    MtpSaved saved;
    const RowLayout rows = RowsOf(ctx, batch, shift);
    mtp_[k - 1]
        .Forward(ctx, weights.mtp[k - 1], rows, Embedded(ctx, weights, batch, shift), hidden[k - 1], hidden[k], saved, stats)
        .Finish();
  }
}

void Model::Hidden(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch,
                   std::span<const Tensor> hidden) const {
  const MicroScope scope(*ctx.memory);
  const ArenaScope scratch_scope(*ctx.ops.scratch);
  const RowLayout rows = RowsOf(ctx, batch, 0);
  const Tensor x = Embedded(ctx, weights, batch, 0), y = ctx.Temp("hidden.y", x.shape);
  ForwardEnd(ctx, weights, batch, ForwardBlocks(ctx, weights, {0, config_.layers()}, rows, x, y), hidden);
}

}  // namespace jevons
