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

namespace {

// to[s, i] = from[s, i + shift] for i < positions; from: [B, S or more] I32, to: [B * positions].
void CopyPositions(const OpContext& ops, const Tensor& from, int64_t shift, int64_t positions, const Tensor& to) {
  Copy(ops, from.Columns(shift, positions), to.Reshape({from.rows(), positions}));
}

}  // namespace

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
      constants_("constants",
                 2 * Arena::SliceBytes(DType::kF32, {sequence_length, model.attention().rope_dim() / 2}), stream.device) {
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
  for (int layer = 0; layer < model.layers(); ++layer)
    blocks_.push_back(MakeBlock(layer, layer < model.dense_layers()));
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

int64_t Model::EvenRows(int64_t sequences, int64_t sequence_length) const {
  const auto depth = static_cast<int64_t>(mtp_.size());
  int64_t tokens = (moe_layers_ - depth) * sequence_length;
  for (int64_t k = 1; k <= depth; ++k) tokens += sequence_length - k;
  return sequences * tokens * config_.moe().top_k();
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

int64_t Model::ForwardBackward(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch,
                               const LossScales& scales, const MicroBatchTotals& totals) const {
  const int64_t S = batch.sequence_length, B = batch.sequences, H = config_.hidden_size();
  const auto depth = static_cast<int64_t>(mtp_.size());
  const int64_t embedded_rows = B * ((depth + 1) * S - depth * (depth + 1) / 2);
  auto rows_of = [&](int64_t k) { return B * (S - k); };  // module k; 0 is the main model
  ArenaScope saved_scope(*ctx.saved), scratch_scope(*ctx.ops.scratch);

  // Forward. All embedded rows lie together, the main model's first, so that the embedding's gradient is one sum.
  Phase outer = ctx.timer->Switch(Phase::kForward);
  const Tensor ids = ctx.SaveAs("embedding.ids", DType::kI32, {embedded_rows});
  const Tensor embedded = ctx.Save("embedding.rows", {embedded_rows, H});
  std::vector<int64_t> first_row(static_cast<size_t>(depth) + 1, 0);
  for (int64_t k = 0, row = 0; k <= depth; row += rows_of(k), ++k) {
    first_row[static_cast<size_t>(k)] = row;
    CopyPositions(ctx.ops, batch.tokens, k, S - k, Tensor::Of(ids.as<int32_t>() + row, {rows_of(k)}));
  }
  Embedding(ctx.ops, weights.embedding.value, ids, embedded);

  auto head = [&](const Tensor& x, int64_t k, float scale, const Tensor& dx, HeadGradient& gradient) {
    ArenaScope scope(*ctx.ops.scratch);
    const Tensor labels = ctx.TempAs("head.labels", DType::kI32, {rows_of(k)});
    CopyPositions(ctx.ops, batch.tokens, k + 1, S - k, labels);
    HeadLossAndGradient(ctx, weights.head.value, x, labels, scale, dx, gradient, totals.losses + k);
  };
  int64_t moe_index = 0, received_rows = 0;
  auto next_stats = [&](bool dense) {
    if (dense) return BlockStats{};
    const int64_t i = moe_index++;
    return BlockStats{.balance_loss = totals.losses + 1 + depth + i, .counts = totals.counts.Index(i), .received_rows = 0};
  };

  const RowLayout rows = RowsOf(ctx, batch, 0);
  std::vector<BlockSaved> saved(blocks_.size());
  std::vector<Arena::Mark> marks;
  Tensor x = embedded.Rows(0, rows.rows());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    marks.push_back(ctx.saved->Save());
    const Tensor y = ctx.Save("block.y", x.shape);
    BlockStats stats = next_stats(blocks_[i].dense());
    blocks_[i].Forward(ctx, weights.blocks[i], rows, x, y, saved[i], stats);
    received_rows += stats.received_rows;
    x = y;
  }
  const auto eps = static_cast<float>(config_.norm_eps());
  const Tensor final_rstd = ctx.SaveAs("final.rstd", DType::kF32, {rows.rows()});
  const Tensor hidden = ctx.Save("final.hidden", x.shape);
  NormForward(ctx, {static_cast<int>(config_.layers()), "final hidden state", eps}, x, weights.final_norm, hidden,
              final_rstd);

  // Heads. d_hidden[k] is the gradient of module k's output, complete once module k+1 has run backward.
  HeadGradient head_gradient(weights.head.grad, weights.head_scratch);
  std::vector<Tensor> d_hidden(static_cast<size_t>(depth) + 1);
  d_hidden[0] = ctx.Temp("d_hidden", hidden.shape);
  head(hidden, 0, scales.main, d_hidden[0], head_gradient);
  std::vector<MtpSaved> mtp_saved(mtp_.size());
  std::vector<RowLayout> mtp_rows;
  Tensor previous = hidden;
  for (int64_t k = 1; k <= depth; ++k) {
    const auto i = static_cast<size_t>(k - 1);
    mtp_rows.push_back(RowsOf(ctx, batch, k));
    const Tensor out = ctx.Save("mtp.out", {rows_of(k), H});
    BlockStats stats = next_stats(false);
    mtp_[i].Forward(ctx, weights.mtp[i], mtp_rows[i], embedded.Rows(first_row[i + 1], rows_of(k)), previous, out,
                    mtp_saved[i], stats);
    received_rows += stats.received_rows;
    d_hidden[i + 1] = ctx.Temp("d_hidden", out.shape);
    head(out, k, scales.mtp, d_hidden[i + 1], head_gradient);
    previous = out;
  }
  head_gradient.Finish(ctx.ops);

  // Backward.
  ctx.timer->Switch(Phase::kBackward);
  const Tensor d_embedded = ctx.Temp("d_embedded", embedded.shape);
  for (int64_t k = depth; k >= 1; --k) {
    const auto i = static_cast<size_t>(k - 1);
    mtp_[i].Backward(ctx, weights.mtp[i], mtp_rows[i], d_hidden[i + 1], mtp_saved[i], scales.balance,
                     d_embedded.Rows(first_row[i + 1], rows_of(k)), d_hidden[i]);
  }
  Tensor dy = ctx.Temp("d_stream", hidden.shape), dx = ctx.Temp("d_stream", hidden.shape);
  NormBackward(ctx, d_hidden[0], x, weights.final_norm, final_rstd, dy, WriteMode::kOverwrite);
  for (size_t i = blocks_.size(); i-- > 0;) {
    ArenaScope scope(*ctx.ops.scratch);
    if (i == 0) dx = d_embedded.Rows(0, rows.rows());
    blocks_[i].BackwardInput(ctx, weights.blocks[i], rows, dy, saved[i], scales.balance, dx);
    PhaseScope phase(ctx.timer, Phase::kWeightGrad);
    ctx.wgrad->Run(ctx.ops);
    if (i > 0) ctx.saved->Release(marks[i]);
    std::swap(dx, dy);
  }
  if (weights.embedding.grad.tensor)
    EmbeddingBackward(ctx.ops, d_embedded, ids, weights.embedding.grad.tensor, weights.embedding.grad.mode);
  ctx.timer->Switch(outer);
  return received_rows;
}

void Model::Hidden(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch,
                   std::span<const Tensor> hidden) const {
  const int64_t S = batch.sequence_length, H = config_.hidden_size();
  ArenaScope saved_scope(*ctx.saved), scratch_scope(*ctx.ops.scratch);
  auto embed = [&](int64_t k) {
    const int64_t rows = batch.sequences * (S - k);
    const Tensor ids = ctx.TempAs("embedding.ids", DType::kI32, {rows});
    CopyPositions(ctx.ops, batch.tokens, k, S - k, ids);
    const Tensor x = ctx.Temp("embedding.rows", {rows, H});
    Embedding(ctx.ops, weights.embedding.value, ids, x);
    return x;
  };
  const Tensor counts = ctx.TempAs("hidden.counts", DType::kI64, {config_.moe().routed_experts()});
  BlockStats stats{.balance_loss = static_cast<double*>(ctx.TempAs("hidden.balance", DType::kI64, {1}).data),
                   .counts = counts,
                   .received_rows = 0};
  const RowLayout rows = RowsOf(ctx, batch, 0);
  Tensor x = embed(0), y = ctx.Temp("hidden.y", x.shape);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    ArenaScope scope(*ctx.saved);
    BlockSaved saved;
    blocks_[i].Forward(ctx, weights.blocks[i], rows, x, y, saved, stats);
    std::swap(x, y);
  }
  const Tensor rstd = ctx.TempAs("final.rstd", DType::kF32, {rows.rows()});
  const auto eps = static_cast<float>(config_.norm_eps());
  NormForward(ctx, {static_cast<int>(config_.layers()), "final hidden state", eps}, x, weights.final_norm,
              hidden[0], rstd);
  for (size_t k = 1; k < hidden.size(); ++k) {
    ArenaScope saved_module(*ctx.saved), scratch_module(*ctx.ops.scratch);
    const auto shift = static_cast<int64_t>(k);
    MtpSaved saved;
    mtp_[k - 1].Forward(ctx, weights.mtp[k - 1], RowsOf(ctx, batch, shift), embed(shift), hidden[k - 1],
                        hidden[k], saved, stats);
  }
}

void Model::Evaluate(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch, const Tensor& labels,
                     double* sum) const {
  const int64_t S = batch.sequence_length, T = batch.sequences * S;
  ArenaScope scratch_scope(*ctx.ops.scratch);
  const Tensor label_rows = ctx.TempAs("head.labels", DType::kI32, {T});
  CopyPositions(ctx.ops, labels, 0, S, label_rows);
  const Tensor hidden = ctx.Temp("hidden", {T, config_.hidden_size()});
  Hidden(ctx, weights, batch, {&hidden, 1});
  HeadLoss(ctx, weights.head.value, hidden, label_rows, sum);
}

}  // namespace jevons
