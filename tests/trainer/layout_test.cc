// Contract 8: losses, gradients and weights are bitwise equal for every world size, EP x DP layout and thread count.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <map>
#include <mutex>

#include "kernels/cpu/gemm_impl.h"
#include "parallel/comm/loopback.h"
#include "tests/support/amx_model.h"
#include "tests/support/tiny_model.h"
#include "trainer/train_step.h"

namespace jevons {
namespace {

constexpr int64_t kS = 6;

RunConfig TinyRun(int64_t batch, int64_t micro) {
  RunConfig config;
  *config.mutable_model() = TinyModel();
  config.mutable_model()->mutable_moe()->set_routed_experts(12);  // 12 experts on 8 ranks: blocks of 1 and 2
  config.mutable_model()->mutable_moe()->set_groups(4);
  config.mutable_data()->set_sequence_length(kS);
  config.mutable_train()->set_batch_sequences(batch);
  config.mutable_train()->set_micro_batch_sequences(micro);
  config.mutable_optimizer()->mutable_learning_rate()->set_peak(1e-2);
  return config;
}

// Everything that a run of some steps leaves behind, by logical tensor, and the figures it printed.
struct Outcome {
  std::map<std::string, std::vector<uint8_t>> state;
  std::vector<double> figures;
  std::vector<int64_t> loads;
};

struct Layout {
  int ranks, ep, threads;
};

SampleBatch BatchOf(const TrainStep& step, const StepPlan& plan, int64_t vocab) {
  const Range mine = step.SamplesOf(plan.sequences);
  SampleBatch batch{.first = plan.first_sample + mine.begin, .count = mine.size(), .tokens = {}, .document_start = {}};
  for (int64_t s = 0; s < mine.size(); ++s)
    for (int32_t token : RandomTokens(kS + 1, vocab, 100 + static_cast<uint64_t>(batch.first + s)))
      batch.tokens.push_back(token);
  return batch;
}

Outcome RunSteps(const RunConfig& config, const Layout& layout, int steps) {
  Outcome outcome;
  std::mutex mutex;
  RunLoopback(layout.ranks, [&](Communicator& world) {
    omp_set_num_threads(layout.threads);
    Mesh mesh(world, {.world = layout.ranks, .pp = 1, .ep = layout.ep});
    TrainStep step(config, mesh);
    step.Initialize();
    for (int i = 0; i < steps; ++i) {
      const StepPlan plan{.step = i, .first_sample = i * config.train().batch_sequences(),
                          .sequences = config.train().batch_sequences(), .tokens_before = 0, .learning_rate = 1e-2,
                          .gamma = 0.01, .mtp_weight = 0.3};
      const auto stats = step.Run(plan, BatchOf(step, plan, config.model().vocab_size()));
      ASSERT_TRUE(stats.ok()) << stats.status();
      const std::lock_guard lock(mutex);
      if (world.rank() != 0) continue;
      for (double figure : {stats->loss, stats->mtp_loss, stats->balance_loss, stats->gradient_norm})
        outcome.figures.push_back(figure);
      outcome.loads = stats->loads;
    }
    const std::lock_guard lock(mutex);
    for (const StateSlice& slice : step.State()) {
      const auto size = static_cast<size_t>(SizeOf(slice.data.dtype));
      std::vector<uint8_t>& bytes = outcome.state[slice.name];
      bytes.resize(static_cast<size_t>(slice.shape.size()) * size, 0xAB);
      std::memcpy(bytes.data() + static_cast<size_t>(slice.elements.begin) * size, slice.data.data,
                  static_cast<size_t>(slice.elements.size()) * size);
    }
  });
  return outcome;
}

void ExpectEqual(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.figures, b.figures);
  EXPECT_EQ(a.loads, b.loads);
  ASSERT_EQ(a.state.size(), b.state.size());
  for (const auto& [name, bytes] : a.state) EXPECT_TRUE(bytes == b.state.at(name)) << name;
}

const std::vector<Layout> kLayouts = {{1, 1, 2}, {2, 1, 1}, {2, 2, 2}, {3, 1, 1}, {3, 3, 1}, {4, 1, 1}, {4, 2, 1},
                                      {4, 4, 1}, {6, 1, 1}, {6, 2, 1}, {6, 3, 1}, {6, 6, 1}, {8, 4, 1}, {8, 8, 1}};

class LayoutEquality : public testing::TestWithParam<std::tuple<int, ComputeType, ProductType, const char*>> {
 protected:
  void TearDown() override { cpu::ForceGemmImpl(""); }
};

// 7 micro-batches split unevenly over every rank count but 1; 3 leave ranks of 4, 6 and 8 without any.
TEST_P(LayoutEquality, BitwiseOnEveryLayout) {
  const auto [micro_batches, compute, product, kernel] = GetParam();
  if (std::string(kernel) == "amx") UseAmxModelWhereAbsent();
  ASSERT_TRUE(cpu::ForceGemmImpl(kernel));
  RunConfig config = TinyRun(2 * micro_batches, 2);
  config.mutable_precision()->set_compute(compute);
  config.mutable_precision()->set_gemm(product);
  if (compute == BF16) config.mutable_optimizer()->set_moments(MOMENTS_BF16);
  const Outcome alone = RunSteps(config, {1, 1, 1}, 3);
  ASSERT_FALSE(alone.state.empty());
  ASSERT_EQ(alone.figures.size(), 12u);
  EXPECT_NE(alone.figures[0], alone.figures[4]) << "the second step has the first one's loss";
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(testing::Message() << layout.ranks << " ranks, ep " << layout.ep << ", threads " << layout.threads);
    ExpectEqual(alone, RunSteps(config, layout, 3));
  }
}

INSTANTIATE_TEST_SUITE_P(MicroBatches, LayoutEquality,
                         testing::Combine(testing::Values(3, 7), testing::Values(FP32, BF16), testing::Values(AS_COMPUTE, FP8_BLOCK),
                                          testing::Values("")));
// On the matrix unit that only some CPUs have: on a model of it, should this one lack it.
INSTANTIATE_TEST_SUITE_P(OnTiles, LayoutEquality,
                         testing::Values(std::tuple(7, FP32, FP8_BLOCK, "amx"), std::tuple(7, BF16, AS_COMPUTE, "amx")));

// The loss is taken times a power of two on its way back. Neither the norm nor what the optimizer sees may show it: one
// sequence and three copies of it, whose powers differ, have one mean gradient; and after a first step m = (1 - beta1) g.
TEST(LossScale, IsGoneFromNormAndMoments) {
  std::vector<double> norms;
  for (const int64_t copies : {1, 3}) {
    RunConfig config = TinyRun(copies, 1);
    config.mutable_optimizer()->set_clip_norm(0);
    RunLoopback(1, [&](Communicator& world) {
      Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
      TrainStep step(config, mesh);
      step.Initialize();
      SampleBatch batch{.first = 0, .count = copies, .tokens = {}, .document_start = {}};
      for (int64_t i = 0; i < copies; ++i)
        for (int32_t token : RandomTokens(kS + 1, config.model().vocab_size(), 3)) batch.tokens.push_back(token);
      const auto stats = step.Run({.step = 0, .first_sample = 0, .sequences = copies, .tokens_before = 0, .learning_rate = 0,
                                   .gamma = 0, .mtp_weight = 0.3},
                                  batch);
      ASSERT_TRUE(stats.ok()) << stats.status();
      double squares = 0;
      for (const StateSlice& slice : step.State())
        for (int64_t i = 0; i < slice.elements.size() && slice.name.rfind("m/", 0) == 0; ++i)
          squares += std::pow(slice.data.as<float>()[i] / (1 - config.optimizer().beta1()), 2);
      EXPECT_GT(stats->gradient_norm, 0);
      EXPECT_NEAR(std::sqrt(squares), stats->gradient_norm, 1e-5 * stats->gradient_norm);
      norms.push_back(stats->gradient_norm);
    });
  }
  EXPECT_NEAR(norms[0], norms[1], 1e-5 * norms[0]);
}

// A gate that sends every token to the same experts, so that one rank gets all rows and the others none.
TEST(LayoutEquality, AllTokensToOneRank) {
  RunConfig config = TinyRun(4, 1);
  config.mutable_model()->mutable_moe()->set_routed_experts(8);
  config.mutable_model()->mutable_moe()->set_kept_groups(1);
  auto run = [&](const Layout& layout) {
    Outcome outcome;
    RunLoopback(layout.ranks, [&](Communicator& world) {
      omp_set_num_threads(1);
      Mesh mesh(world, {.world = layout.ranks, .pp = 1, .ep = layout.ep});
      TrainStep step(config, mesh);
      step.Initialize();
      for (size_t i = 0; i < step.weights().bias_names().size(); ++i) step.weights().bias(i).as<float>()[0] = 100;
      const StepPlan plan{.step = 0, .first_sample = 0, .sequences = 4, .tokens_before = 0, .learning_rate = 1e-2,
                          .gamma = 0, .mtp_weight = 0.3};
      const auto stats = step.Run(plan, BatchOf(step, plan, config.model().vocab_size()));
      ASSERT_TRUE(stats.ok()) << stats.status();
      if (world.rank() == 0) {
        outcome.figures = {stats->loss, stats->gradient_norm};
        outcome.loads = stats->loads;
      }
    });
    return outcome;
  };
  const Outcome alone = run({1, 1, 1}), spread = run({4, 4, 1});
  EXPECT_EQ(alone.figures, spread.figures);
  EXPECT_EQ(alone.loads, spread.loads);
  for (size_t e = 2; e < 8; ++e) EXPECT_EQ(spread.loads[e], 0) << "expert " << e << " of the first layer";
}

}  // namespace
}  // namespace jevons
