// Weight gradients are data (contract 3) and read only what is kept for them (contract 2): everything that only
// BackwardInput reads may be destroyed before the queue runs.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/model_harness.h"
#include "trainer/model/block.h"

namespace jevons {
namespace {

void Poison(const Tensor& tensor) {
  if (!tensor || tensor.dtype != DType::kF32) return;
  for (int64_t r = 0; r < tensor.rows(); ++r)
    std::fill_n(tensor.row<float>(r), tensor.cols(), std::numeric_limits<float>::quiet_NaN());
}

void PoisonUntilB(BlockSaved& saved) {
  MlaSaved::UntilB& a = saved.attention.until_b;
  for (const Tensor& t : {a.q_latent, a.q, a.kv, a.kv_latent, a.lse}) Poison(t);
  MoeSaved::UntilB& m = saved.moe.until_b;
  for (const Tensor& t : {m.scores, m.weights, m.fractions, m.gate_up.value(), m.row_weights}) Poison(t);
  Poison(saved.ffn.until_b.gate_up.value());
  Poison(saved.moe.shared.until_b.gate_up.value());
  for (const Tensor& t : {saved.x, saved.h}) Poison(t);
}

class Deferral : public testing::TestWithParam<bool> {};

TEST_P(Deferral, WeightGradientsDoNotReadWhatBackwardInputReads) {
  const bool dense = GetParam();
  const ModelConfig config = TinyModel();
  constexpr int64_t kS = 5, kT = 2 * kS;
  const int64_t H = config.hidden_size(), E = config.moe().routed_experts();
  RunLoopback(1, [&](Communicator& world) {
    auto gradients_of = [&](bool poison) {
      ModelHarness harness(config, kS, world);
      Dispatcher dispatcher(world, E);
      const AttentionConfig& a = config.attention();
      const MlaDims mla{.hidden = H, .heads = a.heads(), .query_rank = a.query_rank(), .kv_rank = a.kv_rank(),
                        .nope = a.nope_dim(), .rope = a.rope_dim(), .value = a.value_dim()};
      const MoeConfig& m = config.moe();
      const Moe moe({.router = {.experts = E, .top_k = m.top_k(), .groups = m.groups(), .kept_groups = m.kept_groups(),
                                .route_scale = 2.5f, .normalize = true},
                     .hidden = H, .intermediate = m.intermediate_size(), .shared_intermediate = m.intermediate_size()},
                    dispatcher);
      Arena constants("constants", 1 << 20);
      const Tensor cos = constants.Allocate("cos", DType::kF32, {kS, a.rope_dim() / 2});
      const Tensor sin = constants.Allocate("sin", DType::kF32, {kS, a.rope_dim() / 2});
      FillRopeTable(10000, a.rope_dim(), {}, cos, sin);
      const Block block(0, 1e-6f, Mla(mla, 0, 0.3f, cos, sin), dense ? nullptr : &moe);

      harness.BindGradients();
      const LayerContext ctx = harness.Context();
      const BlockWeights& w = harness.binding().weights().blocks[dense ? 0 : 1];
      const RowLayout rows{.sequences = 2, .sequence_length = kS};
      const Tensor x = ctx.Save("x", {kT, H}), y = ctx.Save("y", {kT, H}), dy = ctx.Save("dy", {kT, H}),
                   dx = ctx.Save("dx", {kT, H});
      FillNormal(ctx.ops, 1, 2, 0, 1.0f, x.Reshape({x.size()}));
      FillNormal(ctx.ops, 1, 3, 0, 1.0f, dy.Reshape({dy.size()}));
      BlockSaved saved;
      std::vector<int64_t> counts(static_cast<size_t>(E));
      double balance_loss = 0;
      BlockStats stats{.balance_loss = &balance_loss, .counts = Tensor::Of(counts.data(), {E}), .received_rows = 0};
      block.Forward(ctx, w, rows, x, y, saved, stats);
      block.BackwardInput(ctx, w, rows, dy, saved, 0.1f, dx);
      EXPECT_FALSE(ctx.wgrad->empty());
      if (poison) PoisonUntilB(saved);
      ctx.wgrad->Run(ctx.ops);

      std::vector<std::vector<double>> gradients;
      const std::string prefix = dense ? "model.layers.0." : "model.layers.1.";
      for (size_t p = 0; p < harness.weights().specs().size(); ++p)
        if (harness.weights().specs()[p].name.rfind(prefix, 0) == 0) gradients.push_back(harness.Gradient(p));
      return gradients;
    };
    const auto clean = gradients_of(false), poisoned = gradients_of(true);
    ASSERT_GT(clean.size(), 8u);
    EXPECT_EQ(clean, poisoned);  // NaN equals nothing, itself included
  });
}

INSTANTIATE_TEST_SUITE_P(Blocks, Deferral, testing::Bool(),
                         [](const auto& info) { return info.param ? "dense" : "experts"; });

}  // namespace
}  // namespace jevons
