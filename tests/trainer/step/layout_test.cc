// Contract 8: losses, gradients and weights are bitwise equal for every world size, PP x EP x DP layout, schedule and thread count.
#include <unistd.h>

#include <cmath>
#include <fstream>

#include "kernels/cpu/gemm_impl.h"
#include "tests/support/amx_model.h"
#include "tests/support/layout_run.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

const std::vector<RunLayout> kLayouts = {{1, 1, 2}, {2, 1, 1}, {2, 2, 2}, {3, 1, 1}, {3, 3, 1}, {4, 1, 1}, {4, 2, 1},
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
  for (const RunLayout& layout : kLayouts) {
    SCOPED_TRACE(testing::Message() << layout.ranks << " ranks, ep " << layout.ep << ", threads " << layout.threads);
    ExpectEqual(alone, RunSteps(config, layout, 3));
  }
  ReportTrials("layouts", static_cast<int64_t>(kLayouts.size()), "all", "runs of 3 steps, EP x DP");
}

INSTANTIATE_TEST_SUITE_P(MicroBatches, LayoutEquality,
                         testing::Combine(testing::Values(3, 7), testing::Values(FP32, BF16),
                                          testing::Values(AS_COMPUTE, FP8_BLOCK), testing::Values("")));
// On the matrix unit that only some CPUs have: on a model of it, should this one lack it.
INSTANTIATE_TEST_SUITE_P(OnTiles, LayoutEquality,
                         testing::Values(std::tuple(7, FP32, FP8_BLOCK, "amx"), std::tuple(7, BF16, AS_COMPUTE, "amx")));

// Tokens forwarded over nodes x ranks: groups of experts that a rank has whole, or a part of, or both, as many experts on each or not.
class ForwardedEquality : public testing::TestWithParam<std::tuple<ComputeType, ProductType>> {};

TEST_P(ForwardedEquality, BitwiseOnEveryGrid) {
  const auto [compute, product] = GetParam();
  const auto grid = [](int nodes, int locals) {
    return RunLayout{.ranks = nodes * locals, .ep = nodes * locals, .threads = 1, .nodes = nodes};
  };
  const std::vector<std::tuple<int, int, std::vector<RunLayout>>> cases = {
      {24, 8, {grid(1, 8), grid(2, 4), grid(4, 2), grid(8, 1), grid(2, 3)}},
      {20,
       4,
       {grid(1, 8),
        grid(2, 4),
        grid(4, 2),
        {.ranks = 8, .ep = 4, .threads = 1, .nodes = 2},
        {.ranks = 4, .ep = 2, .threads = 1, .pp = 2, .schedule = DUALPIPEV, .nodes = 2}}}};
  for (const auto& [experts, groups, layouts] : cases) {
    RunConfig config = TinyRun(14, 2);  // seven micro-batches: a rank of eight has none
    MoeConfig& moe = *config.mutable_model()->mutable_moe();
    moe.set_routed_experts(experts);
    moe.set_groups(groups);
    moe.set_kept_groups(groups / 2);
    moe.set_top_k(4);
    config.mutable_model()->set_layers(4);
    config.mutable_precision()->set_compute(compute);
    config.mutable_precision()->set_gemm(product);
    const Outcome alone = RunSteps(config, {1, 1, 1}, 2);
    ASSERT_FALSE(alone.state.empty());
    for (const RunLayout& layout : layouts) {
      SCOPED_TRACE(testing::Message() << experts << " experts, " << layout.ranks << " ranks, ep " << layout.ep << " on "
                                      << layout.nodes);
      ExpectEqual(alone, RunSteps(config, layout, 2));
    }
    config.mutable_train()->set_recompute_stages(true);  // tokens travel again, by the plan that was kept
    ExpectEqual(alone, RunSteps(config, layouts[1], 2));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ForwardedEquality,
                         testing::Values(std::tuple(FP32, AS_COMPUTE), std::tuple(BF16, AS_COMPUTE),
                                         std::tuple(BF16, FP8_BLOCK)));

// A model of six blocks, of which one is dense, in a pipeline: every kind of schedule, uneven cuts, stages without layers or without
// experts; with micro-batches to spare, and fewer than ranks.
class PipelineEquality : public testing::TestWithParam<std::tuple<ComputeType, ProductType, int>> {};

TEST_P(PipelineEquality, BitwiseInEverySchedule) {
  const auto [compute, product, modules] = GetParam();
  RunConfig config = TinyRun(16, 1);
  config.mutable_model()->set_layers(6);
  config.mutable_model()->set_dense_layers(2);
  config.mutable_model()->mutable_mtp()->set_depth(modules);
  config.mutable_precision()->set_compute(compute);
  config.mutable_precision()->set_gemm(product);
  const Outcome alone = RunSteps(config, {1, 1, 1}, 2);
  ASSERT_FALSE(alone.state.empty());
  const std::vector<RunLayout> layouts = {
      {2, 1, 1, 2, GPIPE},
      {2, 1, 1, 2, ONE_F_ONE_B},
      {4, 2, 1, 2, ONE_F_ONE_B},
      {3, 1, 2, 3, ONE_F_ONE_B, 1, "E1|2|3H"},
      {4, 1, 1, 4, GPIPE},
      {4, 1, 1, 4, ZB_H1},
      {4, 1, 1, 4, DUALPIPE},
      {4, 1, 1, 4, DUALPIPEV, 1, "1|1|1|0|1|1|1|0"},
      {8, 2, 1, 4, ZB_H1, 1, "3|0|3|0"},
      {4, 2, 1, 2, DUALPIPEV},
      {8, 2, 1, 2, DUALPIPE},
      {2, 1, 1, 2, INTERLEAVED, 2},
      {6, 3, 1, 2, INTERLEAVED, 3},
      {8, 1, 1, 8, ONE_F_ONE_B, 1, "2*3|0*5"},
      {8, 2, 1, 4, DUALPIPEV, 1, "E0|2|1*4|0*2"},
      {1, 1, 2, 1, DUALPIPEV},  // pairs without a pipeline
      {2, 2, 1, 1, DUALPIPEV, 1, "1|5"},
      {4, 2, 1, 1, DUALPIPEV},
  };
  const auto same = [&](const RunLayout& layout) {
    SCOPED_TRACE(testing::Message() << layout.ranks << " ranks, pp " << layout.pp << ", ep " << layout.ep << ", "
                                    << ScheduleType_Name(layout.schedule) << " " << layout.stages);
    ExpectEqual(alone, RunSteps(config, layout, 2));
  };
  for (const RunLayout& layout : layouts) same(layout);
  ReportTrials("layouts", static_cast<int64_t>(layouts.size()), "all", "runs of 2 steps, PP x EP x DP, six schedules");
  if (modules != 1) return;
  // Stages that run again, with the routing that they had.
  config.mutable_train()->set_recompute_stages(true);
  for (const RunLayout& layout : std::vector<RunLayout>{{3, 1, 1, 3, ONE_F_ONE_B, 1, "E1|2|3H"},
                                                        {4, 2, 1, 2, ZB_H1},
                                                        {4, 2, 1, 2, DUALPIPEV},
                                                        {2, 2, 1, 1, INTERLEAVED, 6}})  // of one rank, a block at a time
    same(layout);
}

INSTANTIATE_TEST_SUITE_P(Models, PipelineEquality,
                         testing::Values(std::tuple(FP32, AS_COMPUTE, 0), std::tuple(FP32, AS_COMPUTE, 1),
                                         std::tuple(FP32, FP8_BLOCK, 2), std::tuple(BF16, AS_COMPUTE, 2),
                                         std::tuple(BF16, FP8_BLOCK, 1)));

// 1 to 2 PP + 1 micro-batches, and pipelines that have none in the last round.
TEST(PipelineEquality, BitwiseForEveryNumberOfMicroBatches) {
  for (int micro_batches = 1; micro_batches <= 9; ++micro_batches) {
    RunConfig config = TinyRun(micro_batches, 1);
    config.mutable_model()->set_layers(4);
    const Outcome alone = RunSteps(config, {1, 1, 1}, 2);
    for (const ScheduleType schedule : {GPIPE, ONE_F_ONE_B, ZB_H1}) {
      SCOPED_TRACE(testing::Message() << micro_batches << " micro-batches, " << ScheduleType_Name(schedule));
      ExpectEqual(alone, RunSteps(config, {4, 1, 1, 4, schedule}, 2));
      ExpectEqual(alone, RunSteps(config, {6, 3, 1, 2, schedule}, 2));
    }
  }
}

// Every stage knows where documents begin: those in the middle, and the modules of MTP on the last.
TEST(PipelineEquality, BitwiseWithPackedDocuments) {
  RunConfig config = TinyRun(16, 2);
  config.mutable_model()->set_layers(4);
  const Outcome unpacked = RunSteps(config, {1, 1, 1}, 2);
  config.mutable_data()->set_document_mask(true);
  const Outcome alone = RunSteps(config, {1, 1, 1}, 2);
  EXPECT_NE(alone.figures, unpacked.figures);
  for (const RunLayout& layout :
       {RunLayout{3, 1, 1, 3, ONE_F_ONE_B}, RunLayout{4, 1, 1, 4, ZB_H1, 1, "1|0|3|0"}, RunLayout{4, 1, 1, 4, DUALPIPE},
        RunLayout{3, 1, 1, 3, DUALPIPEV}, RunLayout{4, 1, 1, 4, INTERLEAVED, 2}}) {
    SCOPED_TRACE(ScheduleType_Name(layout.schedule));
    ExpectEqual(alone, RunSteps(config, layout, 2));
  }
}

int64_t ResidentBytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// Whatever a step takes it gives back, and the next one finds it.
TEST(Pipeline, MemoryIsFlatOverAHundredSteps) {
  for (const ScheduleType schedule : {ZB_H1, DUALPIPE}) {
    SCOPED_TRACE(ScheduleType_Name(schedule));
    RunConfig config = TinyRun(8, 1);
    config.mutable_model()->set_layers(4);
    config.mutable_parallel()->set_pp(4);
    config.mutable_parallel()->set_schedule(schedule);
    RunLoopback(4, [&](Communicator& world) {
      omp_set_num_threads(1);
      Mesh mesh(world, {.world = 4, .pp = 4, .ep = 1});
      TrainStep step(config, mesh);
      step.Initialize();
      const StepPlan plan{.step = 0,
                          .first_sample = 0,
                          .sequences = 8,
                          .tokens_before = 0,
                          .learning_rate = 0,  // all steps alike
                          .gamma = 0,
                          .mtp_weight = 0.3};
      const SampleBatch batch = BatchOf(step, plan, config.model().vocab_size());
      const auto run = [&](int steps) {
        for (int i = 0; i < steps; ++i) ASSERT_TRUE(step.Run(plan, batch).ok());
        world.Barrier();
      };
      run(10);
      const int64_t peak = step.memory().activations, resident = ResidentBytes();
      run(90);
      // How many messages were under way at once is a matter of time.
      const int64_t message = Arena::SliceBytes(DType::kF32, {kTinySequence, config.model().hidden_size()});
      EXPECT_LE(step.memory().activations - peak, message * 4 * Executor::kSends);
      EXPECT_LE(ResidentBytes() - resident, 1 << 20);
      world.Barrier();
    });
  }
}

// By the loads of the whole batch, whoever counted them: from zero, one step leaves one move.
TEST(Balance, AStepMovesTheBiasesOnce) {
  RunConfig config = TinyRun(4, 1);
  config.mutable_model()->set_layers(4);
  for (const RunLayout& layout : {RunLayout{1, 1, 1}, RunLayout{4, 2, 1, 2, ZB_H1}, RunLayout{2, 1, 1, 2, DUALPIPE}}) {
    const Outcome outcome = RunSteps(config, layout, 1);
    const auto experts = static_cast<size_t>(config.model().moe().routed_experts());
    size_t layer = 0;
    for (const auto& [name, bytes] : outcome.state) {  // by name, and so by layer: there are fewer than ten
      if (name.rfind("gate_bias/", 0) != 0) continue;
      const std::vector<float> moves = GateBiasSteps({outcome.loads.data() + layer++ * experts, experts}, 0.01f);
      EXPECT_EQ(std::memcmp(bytes.data(), moves.data(), bytes.size()), 0) << name;
    }
    EXPECT_EQ(layer * experts, outcome.loads.size());
  }
}

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
        for (int32_t token : RandomTokens(kTinySequence + 1, config.model().vocab_size(), 3)) batch.tokens.push_back(token);
      const auto stats = step.Run({.step = 0,
                                   .first_sample = 0,
                                   .sequences = copies,
                                   .tokens_before = 0,
                                   .learning_rate = 0,
                                   .gamma = 0,
                                   .mtp_weight = 0.3},
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
  auto run = [&](const RunLayout& layout) {
    Outcome outcome;
    RunLoopback(layout.ranks, [&](Communicator& world) {
      omp_set_num_threads(1);
      Mesh mesh(world, {.world = layout.ranks, .pp = 1, .ep = layout.ep});
      TrainStep step(config, mesh);
      step.Initialize();
      for (size_t i = 0; i < step.weights().bias_names().size(); ++i) step.weights().bias(i).as<float>()[0] = 100;
      const StepPlan plan{
          .step = 0, .first_sample = 0, .sequences = 4, .tokens_before = 0, .learning_rate = 1e-2, .gamma = 0, .mtp_weight = 0.3};
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
