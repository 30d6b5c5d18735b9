// A step's limits and monotonicity, and impossible layouts.
#include "trainer/plan/cost_model.h"

#include <gmock/gmock.h>

#include "tests/trainer/plan/plan_cases.h"
#include "trainer/metrics/flops.h"
#include "trainer/model/params.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

TEST(ModelShape, CountsAsTheParameterTableDoes) {
  for (const char* preset : {"deepseek_v3_671b", "deepseek_v2_lite_16b", "small_cpu"}) {
    const RunConfig config = Preset(preset, {"model.vocab_size=2048"});
    const ModelShape shape = ShapeOf(config.model());
    const ParamCount count = CountParameters(config.model());
    const auto near = [](double a, double b) { return std::abs(a / b - 1) < 2e-3; };  // norms
    EXPECT_TRUE(near(shape.total_parameters(), static_cast<double>(count.total))) << preset;
    EXPECT_TRUE(near(shape.active_parameters(), static_cast<double>(count.active_without_embedding))) << preset;
    EXPECT_TRUE(near(shape.flops_per_token(512, true), CountFlops(config.model(), 512, CoreCount::kCausal).training_without_mtp())) << preset;
  }
}

TEST(Stages, HoldEveryBlockOnce) {
  const ModelShape model = DeepSeekV3();
  const Layout layout = PublishedLayout();
  const LayerModel layers(model, layout, KernelModel(H800(), {}));
  for (const int stages : {1, 2, 3, 16, 32, 61}) {
    int64_t dense = 0, moe = 0, tails = 0, embeddings = 0;
    for (const Stage& stage : CutIntoStages(model, layers, stages, true)) {
      EXPECT_FALSE(stage.parts.empty());
      dense += stage.content.dense_blocks;
      moe += stage.content.moe_blocks;
      tails += stage.content.tail;
      embeddings += stage.content.embedding;
    }
    EXPECT_EQ(dense, 3);
    EXPECT_EQ(moe, 58);
    EXPECT_EQ(tails, 1);
    EXPECT_EQ(embeddings, 1);
  }
}

TEST(Plan, SlowerPartsNeverMakeAFasterStep) {
  const Plan base = PlanOf(PublishedLayout());
  const auto changed = [&](auto&& change) {
    ClusterConfig cluster = H800();
    change(cluster);
    return PlanOf(PublishedLayout(), cluster).step_seconds;
  };
  EXPECT_GT(changed([](ClusterConfig& c) { c.mutable_gpu()->set_fp8_tflops(700); }), base.step_seconds);
  EXPECT_GT(changed([](ClusterConfig& c) { c.mutable_gpu()->set_bf16_tflops(400); }), base.step_seconds);
  EXPECT_GT(changed([](ClusterConfig& c) { c.mutable_gpu()->set_hbm_gbs(1600); }), base.step_seconds);
  EXPECT_GT(changed([](ClusterConfig& c) { c.mutable_network()->set_gbs(20); }), base.step_seconds);
  EXPECT_GT(changed([](ClusterConfig& c) { c.mutable_node()->set_nvlink_gbs(50); }), base.step_seconds);
  EXPECT_GT(changed([](ClusterConfig& c) { c.mutable_gpu()->set_attention_backward_tflops(200); }), base.step_seconds);
}

TEST(Plan, FreeCommunicationLeavesComputation) {
  ClusterConfig cluster = H800();
  cluster.mutable_network()->set_gbs(1e5);
  cluster.mutable_network()->set_latency_us(0);
  cluster.mutable_node()->set_nvlink_gbs(1e5);
  Constants even;
  even.expert_imbalance = 1;
  even.unevenness = 0;
  Layout layout = PublishedLayout();
  layout.overlap = false;
  const Plan plan = PlanOf(layout, cluster, even);
  EXPECT_LT(plan.work[Cost::kDispatch] + plan.work[Cost::kCombine], 0.01 * plan.step_seconds);
  EXPECT_NEAR(plan.hidden, 0, 1e-6 * plan.step_seconds);
  EXPECT_EQ(plan.waiting, 0);
  // What is left is the kernels, the bubble and the optimizer.
  EXPECT_NEAR(plan.work.sum() + plan.lines.bubble + plan.lines.optimizer, plan.step_seconds, 1e-6 * plan.step_seconds);
}

TEST(Plan, LinesAddUp) {
  for (const ScheduleKind schedule : kAllScheduleKinds) {
    Layout layout = PublishedLayout();
    layout.schedule = schedule;
    layout.pp = 8;
    layout.batch = 256 * 64;
    if (schedule == ScheduleKind::kInterleaved) layout.virtual_stages = 2;
    const Plan plan = PlanOf(layout);
    const StepLines& l = plan.lines;
    EXPECT_NEAR(l.forward + l.backward + l.weight + l.overlapped + l.bubble + l.optimizer, plan.step_seconds, 1e-9);
    EXPECT_GT(l.bubble, 0);
  }
}

TEST(Plan, OnePipelineStageHasNoBubbleButWaiting) {
  Layout layout = PublishedLayout();
  layout.pp = 1;
  layout.schedule = ScheduleKind::k1F1B;
  layout.batch = 2048 * 8;
  Constants constants;
  constants.unevenness = 0;
  EXPECT_NEAR(PlanOf(layout, H800(), constants).lines.bubble, 0, 1e-9);
}

TEST(Plan, ImpossibleLayoutsNameTheNearest) {
  const auto refused = [](auto&& change, const char* text) {
    Layout layout = PublishedLayout();
    change(layout);
    const absl::StatusOr<Plan> plan = MakePlan(DeepSeekV3(), layout, H800());
    ASSERT_FALSE(plan.ok());
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr(text));
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr("nearest legal"));
  };
  refused([](Layout& l) { l.pp = 12; }, "parallel.pp = 12: pp x tp x cp = 12 must divide 2048 GPUs");
  refused([](Layout& l) { l.pp = 64; l.schedule = ScheduleKind::k1F1B; }, "64 stages for 62 blocks");
  refused([](Layout& l) { l.ep = 48; }, "parallel.ep = 48: must divide the 256 routed experts");
  refused([](Layout& l) { l.ep = 256; }, "must divide the 128 GPUs of a stage; nearest legal: 128");
  refused([](Layout& l) { l.batch = 15361; }, "train.batch_sequences = 15361: must be a multiple of 128");
  refused([](Layout& l) { l.gpus = 4096; }, "gpus = 4096: the cluster has 2048");
}

TEST(Plan, AGpuWithoutFp8IsNamed) {
  ClusterConfig cluster = H800();
  cluster.mutable_gpu()->set_fp8_tflops(0);
  const absl::StatusOr<Plan> plan = MakePlan(DeepSeekV3(), PublishedLayout(), cluster);
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("precision.gemm = FP8_BLOCK: H800 has no FP8"));
}

TEST(Goodput, FallsWithTheClusterAndStaysAShare) {
  Plan plan = PlanOf(PublishedLayout());
  const double useful = EstimateGoodput(plan).useful();
  EXPECT_GT(useful, 0.9);
  plan.cluster.mutable_hour()->set_gpu_mtbf_hours(500);
  EXPECT_LT(EstimateGoodput(plan).useful(), useful);
  plan.cluster.mutable_hour()->set_gpu_mtbf_hours(1);
  EXPECT_GT(EstimateGoodput(plan).useful(), 0);
}

}  // namespace
}  // namespace jevons
