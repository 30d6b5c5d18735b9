// Whole training steps in FP8: what they learn, count and keep, what a shadow step sees, and what dispatch carries.
#include <gtest/gtest.h>

#include <map>

#include "kernels/ops/quantize.h"
#include "parallel/comm/loopback.h"
#include "tests/support/model_harness.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/model.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

RunConfig TinyRun() {
  RunConfig config;
  *config.mutable_model() = TinyModel();
  config.mutable_model()->set_hidden_size(160);  // sums over more than one block
  config.mutable_model()->set_init_std(0.05);
  config.mutable_data()->set_sequence_length(12);
  config.mutable_train()->set_batch_sequences(4);
  return config;
}

struct Trained {
  double first = 0, last = 0;
  StepStats stats;  // of the last step
  MemoryLedger memory;
};

Trained Train(const RunConfig& config, int steps, int ranks = 1, int ep = 1) {
  Trained result;
  RunLoopback(ranks, [&](Communicator& world) {
    Mesh mesh(world, {.world = ranks, .pp = 1, .ep = ep});
    TrainStep step(config, mesh);
    step.Initialize();
    const Range mine = step.SamplesOf(4);
    const std::vector<int32_t> tokens = RandomTokens(4 * 13, config.model().vocab_size(), 9);
    SampleBatch batch{.first = mine.begin,
                      .count = mine.size(),
                      .tokens = {tokens.begin() + mine.begin * 13, tokens.begin() + mine.end * 13},
                      .document_start = {}};
    for (int i = 0; i < steps; ++i) {
      const auto stats = step.Run({.step = i,
                                   .first_sample = 0,
                                   .sequences = 4,
                                   .tokens_before = 0,
                                   .learning_rate = 3e-3,
                                   .gamma = 0.001,
                                   .mtp_weight = 0.3},
                                  batch);
      ASSERT_TRUE(stats.ok()) << stats.status();
      if (world.rank() != 0) continue;
      if (i == 0) result.first = stats->loss;
      result.last = stats->loss;
      result.stats = *stats;
      result.memory = step.memory_ledger();
    }
  });
  return result;
}

Trained Train(ProductType product, int steps) {
  RunConfig config = TinyRun();
  config.mutable_precision()->set_gemm(product);
  return Train(config, steps);
}

// It trains as FP32 does: the same batch is learned, at nearly the same losses, but not at the same bits.
TEST(Fp8Training, LearnsWhatFp32Learns) {
  const Trained exact = Train(AS_COMPUTE, 30), fp8 = Train(FP8_BLOCK, 30);
  EXPECT_NE(fp8.first, exact.first);
  EXPECT_NEAR(fp8.first, exact.first, 0.01 * exact.first);
  EXPECT_LT(exact.last, 0.5 * exact.first);
  EXPECT_NEAR(fp8.last, exact.last, 0.05 * exact.first);
  EXPECT_EQ(exact.stats.fp8.activations.elements, 0);
  const Fp8Stats& counted = fp8.stats.fp8;
  for (const QuantStats& stats : {counted.activations, counted.gradients, counted.weights, counted.cached}) {
    EXPECT_GT(stats.elements, 0);
    EXPECT_EQ(stats.saturated, 0);
    EXPECT_EQ(stats.nonfinite, 0);
  }
}

// What is counted does not feel where the experts are.
TEST(Fp8Training, CountsTheSameOnEveryLayout) {
  RunConfig config = TinyRun();
  config.mutable_precision()->set_gemm(FP8_BLOCK);
  const Fp8Stats one = Train(config, 2).stats.fp8, two = Train(config, 2, 2, 2).stats.fp8;
  EXPECT_EQ(one.activations, two.activations);
  EXPECT_EQ(one.gradients, two.gradients);
  EXPECT_EQ(one.cached, two.cached);
  EXPECT_GT(one.gradients.elements, 0);
}

// Saved for backward: rows at the experts and inputs of SwiGLU by codes, attention's output in E5M6, in every layer.
TEST(Fp8Memory, IsWhatTheFormatsTake) {
  const RunConfig config = [] {
    RunConfig run = TinyRun();
    run.mutable_precision()->set_compute(BF16);
    run.mutable_model()->mutable_mtp()->set_depth(0);
    return run;
  }();
  RunConfig fp8_config = config;
  fp8_config.mutable_precision()->set_gemm(FP8_BLOCK);
  const auto saved = [](const RunConfig& run) {
    const auto list = Train(run, 1).memory.saved;
    return std::map<std::string, int64_t>(list.begin(), list.end());
  };
  const auto bf16 = saved(config), fp8 = saved(fp8_config);
  const ModelConfig& m = config.model();
  const int64_t T = 12, R = T * m.moe().top_k(), H = m.hidden_size(), width = 2 * m.moe().intermediate_size();
  const auto tiles = [](int64_t rows, int64_t cols) { return Arena::SliceBytes(DType::kF32, {rows, TilesOf(cols)}); };
  const auto bytes = [](DType type, int64_t rows, int64_t cols) { return Arena::SliceBytes(type, {rows, cols}); };
  const int64_t moe_layers = m.layers() - m.dense_layers(), layers = m.layers(),
                value = m.attention().heads() * m.attention().value_dim();
  EXPECT_EQ(bf16.at("moe.received"), moe_layers * bytes(DType::kBF16, R, H));
  EXPECT_EQ(fp8.at("moe.received"), moe_layers * bytes(DType::kU8, R, H));
  EXPECT_EQ(fp8.at("moe.received_scales"), moe_layers * tiles(R, H));
  EXPECT_EQ(bf16.at("moe.gate_up"), moe_layers * bytes(DType::kBF16, R, width));
  EXPECT_EQ(fp8.at("moe.gate_up"), moe_layers * (bytes(DType::kU8, R, width) + tiles(R, width)));
  EXPECT_EQ(bf16.at("mla.o"), layers * bytes(DType::kBF16, T, value));
  EXPECT_EQ(fp8.at("mla.o"), layers * (bytes(DType::kU8, T, PackedE5M6Bytes(value)) + tiles(T, value)));
  EXPECT_EQ(bf16.at("block.h"), fp8.at("block.h"));
  EXPECT_EQ(bf16.count("ffn.activated"), 0u) << "computed again";
}

// To compute queries, keys and values again changes no bit.
TEST(Recompute, ChangesNoBitAndSavesMemory) {
  for (const ProductType product : {AS_COMPUTE, FP8_BLOCK}) {
    RunConfig config = TinyRun();
    config.mutable_precision()->set_gemm(product);
    const Trained saved = Train(config, 4);
    config.mutable_train()->set_recompute_up_projections(true);
    const Trained again = Train(config, 4);
    EXPECT_EQ(again.last, saved.last);
    EXPECT_EQ(again.stats.gradient_norm, saved.stats.gradient_norm);
    EXPECT_EQ(again.stats.fp8.activations, saved.stats.fp8.activations) << "counted once";
    const auto names = [](const Trained& t) {
      return std::map<std::string, int64_t>(t.memory.saved.begin(), t.memory.saved.end());
    };
    EXPECT_EQ(names(saved).count("mla.kv"), 1u);
    EXPECT_EQ(names(again).count("mla.kv"), 0u);
  }
}

// A shadow step trains as any other, and says how far FP8 is from the compute type.
TEST(Fp8Shadow, WatchesAndChangesNothing) {
  RunConfig config = TinyRun();
  config.mutable_precision()->set_gemm(FP8_BLOCK);
  const Trained plain = Train(config, 3);
  EXPECT_FALSE(plain.stats.shadow);
  config.mutable_precision()->set_shadow_interval(3);
  for (const int ranks : {1, 2}) {
    const Trained shadowed = Train(config, 3, ranks, ranks);
    EXPECT_EQ(shadowed.last, plain.last);
    EXPECT_EQ(shadowed.stats.gradient_norm, plain.stats.gradient_norm);
    ASSERT_TRUE(shadowed.stats.shadow);
    const ShadowReport& shadow = *shadowed.stats.shadow;
    EXPECT_NE(shadow.loss, shadowed.last);
    EXPECT_NEAR(shadow.loss, shadowed.last, 0.01 * shadowed.last);
    ASSERT_EQ(shadow.errors.size(), static_cast<size_t>(config.model().layers() + config.model().mtp().depth()));
    for (const auto& layer : shadow.errors)
      for (const double error : layer) {
        EXPECT_GT(error, 0.01);  // two operands of four bits
        EXPECT_LT(error, 0.08);
      }
  }
  // The first step's weights are those of a run without FP8, so its shadow's loss is that run's.
  config.mutable_precision()->set_shadow_interval(1);
  EXPECT_EQ(Train(config, 1).stats.shadow->loss, Train(AS_COMPUTE, 1).first);
}

// Rows go to the experts as codes alone, and by powers of two (report 3.3.2).
TEST(Fp8Dispatch, CarriesCodesByPowersOfTwo) {
  const ModelConfig config = TinyModel();
  PrecisionConfig precision;
  precision.set_gemm(FP8_BLOCK);
  constexpr int64_t kS = 5, kT = 2 * kS;
  const MoeConfig& m = config.moe();
  for (const int ranks : {1, 2}) {
    RunLoopback(ranks, [&](Communicator& world) {
      ModelHarness harness(config, kS, world);
      WeightBinding binding(config, harness.weights(), precision);
      binding.Quantize(harness.Context().ops, nullptr);
      Dispatcher dispatcher(world, RoutingOf(m));
      const Moe moe({.router = {.experts = m.routed_experts(),
                                .top_k = m.top_k(),
                                .groups = m.groups(),
                                .kept_groups = m.kept_groups(),
                                .route_scale = 2.5f,
                                .normalize = true},
                     .hidden = config.hidden_size(),
                     .intermediate = m.intermediate_size(),
                     .shared_intermediate = m.intermediate_size()},
                    dispatcher);
      const LayerContext ctx = harness.Context();
      const Tensor x = ctx.Save("x", {kT, config.hidden_size()});
      FillNormal(ctx.ops, 1, 2, 0, 1.0f, x.Reshape({x.size()}));
      std::vector<int64_t> counts(static_cast<size_t>(m.routed_experts()));
      MoeSaved saved;
      MoeTransfer transfer;
      double balance_loss = 0;
      moe.ForwardGate(ctx, binding.weights().blocks[1].moe, {.sequences = 2, .sequence_length = kS}, x,
                      Tensor::Of(counts.data(), {m.routed_experts()}), &balance_loss, saved);
      moe.ForwardDispatch(ctx, binding.weights().blocks[1].moe, x, saved, transfer);
      moe.ForwardExperts(ctx, binding.weights().blocks[1].moe, saved, transfer);
      const Activation& received = saved.until_w.received;
      EXPECT_TRUE(received.quantised());
      EXPECT_FALSE(received.value);
      EXPECT_GT(received.rows(), 0);
      for (int64_t i = 0; i < received.fp8.scales.size(); ++i) {
        int exponent = 0;
        EXPECT_EQ(std::frexp(received.fp8.scales.as<float>()[i], &exponent), 0.5f) << i;
      }
      const Tensor y = ctx.Temp("y", x.shape);
      Zero(y);
      moe.ForwardCombine(ctx, saved, transfer, y);
    });
  }
}

// Dispatch, forward and backward, carries a byte and a 128th of a scale per element; combine stays as it is (report 3.3).
TEST(Fp8Dispatch, HalvesTheBytesOfDispatch) {
  std::map<ProductType, Traffic> bytes;
  for (const ProductType product : {AS_COMPUTE, FP8_BLOCK}) {
    RunConfig config;
    *config.mutable_model() = TinyModel();
    config.mutable_model()->set_hidden_size(256);
    config.mutable_data()->set_sequence_length(12);
    config.mutable_train()->set_batch_sequences(2);
    config.mutable_precision()->set_compute(BF16);
    config.mutable_precision()->set_routed_experts(product);
    RunLoopback(2, [&](Communicator& world) {
      Mesh mesh(world, {.world = 2, .pp = 1, .ep = 2});
      TrainStep step(config, mesh);
      step.Initialize();
      const SampleBatch batch{
          .first = world.rank(), .count = 1, .tokens = RandomTokens(13, config.model().vocab_size(), 9), .document_start = {}};
      const auto stats = step.Run(
          {.step = 0, .first_sample = 0, .sequences = 2, .tokens_before = 0, .learning_rate = 0, .gamma = 0, .mtp_weight = 0.3},
          batch);
      ASSERT_TRUE(stats.ok()) << stats.status();
      if (world.rank() == 0) bytes[product] = stats->exchanged;
    });
  }
  // Rows of 256: there and back again 512 bytes become 256 of codes and 8 of scales; each row's routing weight goes along.
  const auto ratio =
      static_cast<double>(bytes[FP8_BLOCK].dispatch.bytes()) / static_cast<double>(bytes[AS_COMPUTE].dispatch.bytes());
  EXPECT_NEAR(ratio, (2 * 264.0 + 4) / (2 * 512.0 + 4), 0.01);
  EXPECT_NEAR(static_cast<double>(bytes[FP8_BLOCK].combine.bytes()), static_cast<double>(bytes[AS_COMPUTE].combine.bytes()),
              0.05 * static_cast<double>(bytes[AS_COMPUTE].combine.bytes()))
      << "the routing of later layers may move a little";
}

}  // namespace
}  // namespace jevons
