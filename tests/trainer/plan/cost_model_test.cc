// A step's limits and monotonicity, and impossible layouts.
#include "trainer/plan/cost_model.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/trainer/plan/plan_cases.h"
#include "trainer/spec/flops.h"
#include "trainer/spec/params.h"

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
    EXPECT_TRUE(
        near(shape.flops_per_token(512, true), CountFlops(config.model(), 512, CoreCount::kCausal).training_without_mtp()))
        << preset;
  }
}

TEST(Stages, HoldEveryBlockOnce) {
  const ModelShape model = DeepSeekV3();
  const Layout layout = PublishedLayout();
  const LayerModel layers(model, layout, KernelModel(H800(), {}));
  for (const int stages : {1, 2, 3, 16, 32, 61}) {
    int64_t dense = 0, moe = 0, tails = 0, embeddings = 0;
    for (const PlannedStage& stage : PlanStages(model, layers, FastestCut(model, layers, stages, true))) {
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

// What the config's parallel.stages says is what is priced, as it is what `train` runs.
TEST(Stages, AreCutAsTheConfigSays) {
  const auto seconds = [](const char* stages) {
    const RunConfig config = Preset("deepseek_v3_671b", {absl::StrCat("parallel.stages=", stages)});
    const Plan plan = PlanOf(CutLayoutOf(config, 2048).value());
    EXPECT_EQ(StagesText(plan.step.cut), StagesText(CutIntoStages(config.model(), 16, stages).value()));
    return plan.step_seconds;
  };
  const double fastest = PlanOf(PublishedLayout()).step_seconds;
  for (const char* stages : {"", "E3|4*14|2MH", "E5|4*14|MH", "1|4*15"}) EXPECT_GE(seconds(stages), fastest) << stages;
  EXPECT_GT(seconds("E8|4*12|3|1|1MH"), 1.2 * fastest);  // the slowest stage has twice its share
  EXPECT_THAT(CutLayoutOf(Preset("deepseek_v3_671b", {"parallel.stages=61"}), 2048).status().message(),
              HasSubstr("parallel.stages = \"61\""));
}

TEST(Plan, PricesTheDispatchThatTheConfigAsksFor) {
  const auto seconds = [](const char* dispatch) {
    return PlanOf(LayoutOf(Preset("deepseek_v3_671b", {absl::StrCat("parallel.dispatch=", dispatch)}), 2048)).step_seconds;
  };
  EXPECT_EQ(seconds("AUTO"), seconds("FORWARDING"));
  EXPECT_GT(seconds("FLAT"), 1.05 * seconds("AUTO"));
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

// A rank of a pipeline holds the codes of all its stages' weights.
TEST(Plan, CountsTheCodesOfWeights) {
  Layout layout = PublishedLayout();
  EXPECT_EQ(layout.weight_codes, 2) << "of CUDA";
  EXPECT_FALSE(layout.values_of_codes);
  const Plan alone = PlanOf(layout);
  layout.values_of_codes = true;
  const Plan twice = PlanOf(layout);
  layout.weight_codes = 1;
  const Plan once = PlanOf(layout);
  layout.precision = Precision::kBf16;
  const Plan none = PlanOf(layout);
  for (size_t rank = 0; rank < none.memory.size(); ++rank) {
    const double values = none.memory[rank].weights, codes = once.memory[rank].weights - values;
    EXPECT_GT(codes, 0.3 * values);  // a byte beside two, for all but embedding, head and gates
    EXPECT_LT(codes, 0.51 * values);
    EXPECT_DOUBLE_EQ(twice.memory[rank].weights, values + 2 * codes);
    EXPECT_NEAR(twice.memory[rank].weights - alone.memory[rank].weights, 2 * codes,
                1e-3 * codes);  // two bytes; codes have scales too
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
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr("; nearest legal: "));
  };
  refused([](Layout& l) { l.pp = 12; },
          "parallel.pp = 12: pp x tp x cp = 12 must divide 2048 GPUs; nearest legal: parallel.pp = 16");
  refused(
      [](Layout& l) {
        l.pp = 64;
        l.schedule = ScheduleKind::k1F1B;
      },
      "64 stages for 62 blocks leave some empty; nearest legal: parallel.pp = 32");
  refused([](Layout& l) { l.ep = 48; }, "parallel.ep = 48: must divide the 256 routed experts");
  refused([](Layout& l) { l.ep = 256; }, "must divide the 128 GPUs of a stage; nearest legal: parallel.ep = 128");
  refused([](Layout& l) { l.batch = 15361; },
          "train.batch_sequences = 15361: must be a multiple of 128: 128 data-parallel ranks x micro-batches of 1; nearest "
          "legal: train.batch_sequences = 15360");
  refused([](Layout& l) { l.gpus = 4096; }, "gpus = 4096: the cluster has 2048");
}

// "... nearest legal: parallel.pp = 16, train.batch_sequences = 15360", carried out.
Layout Followed(Layout layout, const std::string& message) {
  const std::pair<const char*, int64_t Layout::*> fields[] = {{"gpus = ", &Layout::gpus},
                                                              {"parallel.pp = ", &Layout::pp},
                                                              {"parallel.ep = ", &Layout::ep},
                                                              {"train.batch_sequences = ", &Layout::batch}};
  const std::string advice = message.substr(message.find("nearest legal: "));
  for (const auto& [name, field] : fields)
    if (const size_t at = advice.find(name); at != std::string::npos)
      layout.*field = std::atoll(advice.c_str() + at + std::string(name).size());
  return layout;
}

TEST(Layout, WhatAnErrorSuggestsIsLegal) {
  const ModelShape model = DeepSeekV3();
  const ClusterConfig cluster = H800();
  int refused = 0;
  for (const ScheduleKind schedule : kAllScheduleKinds) {
    for (const int64_t pp : {1, 3, 12, 16, 31, 62, 64, 100, 4096}) {
      for (const int64_t ep : {1, 5, 64, 200, 512}) {
        for (const int64_t batch : {1, 100, 15360, 15361}) {
          Layout layout = PublishedLayout();
          layout.schedule = schedule;
          layout.virtual_stages = schedule == ScheduleKind::kInterleaved ? 2 : 1;
          layout.pp = pp;
          layout.ep = ep;
          layout.batch = batch;
          const absl::Status status = ValidateLayout(layout, model, cluster);
          EXPECT_EQ(status.ok(), CheckLayout(layout, model, cluster).ok());
          if (status.ok()) continue;
          ++refused;
          const Layout better = Followed(layout, std::string(status.message()));
          EXPECT_TRUE(CheckLayout(better, model, cluster).ok()) << status.message() << "\n"
                                                                << CheckLayout(better, model, cluster);
        }
      }
    }
  }
  EXPECT_GT(refused, 500);
}

TEST(Layout, WithoutALegalOneTheErrorSaysSo) {
  Layout layout = PublishedLayout();
  layout.gpus = 2048;
  layout.tp = 3;
  const absl::Status status = ValidateLayout(layout, DeepSeekV3(), H800());
  EXPECT_THAT(std::string(status.message()), HasSubstr("nearest legal: none"));
}

// Over MPI each rank sends to each other what that one owns; exact sums are twice as long, weights are not.
TEST(Plan, ExactSumsOverMpiTravelStraightAndTwiceAsLong) {
  ClusterConfig cluster = H800();
  cluster.set_gpus(4);
  cluster.mutable_node()->set_gpus(2);
  cluster.mutable_network()->set_latency_us(0);
  Layout layout = PublishedLayout();
  layout.gpus = layout.ep = 4;
  layout.pp = 1;
  layout.schedule = ScheduleKind::k1F1B;
  layout.batch = 4 * 8;
  layout.gradient_bytes = 8;
  layout.rings = false;
  const Constants constants;
  const StageContent all{.dense_blocks = 3, .moe_blocks = 58, .embedding = true, .tail = true};
  const StageParameters p = ParametersOf(all, DeepSeekV3(), layout);
  const double network = cluster.network().gbs() * 1e9 * constants.network_share,
               node = cluster.node().nvlink_gbs() * 1e9 * constants.nvlink_share;
  // Of four ranks, two are on the other node and one is beside. Experts lie on one rank each.
  const double travels = p.dense / 4 * (2 / network + 1 / node);
  const double added = KernelModel(cluster, constants).Stream(5 * 8 * p.dense);
  const OptimizerTimes times = PlanOf(layout, cluster).step.optimizer;
  EXPECT_NEAR(times.reduce, 8 * travels + added, 1e-9);
  EXPECT_NEAR(times.gather, layout.value_bytes * travels, 1e-9);
}

TEST(Layout, TakesSumsAndTransportFromTheRun) {
  const auto layout = [](const std::vector<std::string>& settings) { return LayoutOf(Preset("quickstart_cpu", settings), 1); };
  EXPECT_EQ(layout({}).gradient_bytes, 8);
  EXPECT_FALSE(layout({}).rings);
  EXPECT_EQ(layout({"parallel.sums=CHAIN"}).gradient_bytes, 4);
  EXPECT_EQ(layout({"parallel.backend=CUDA"}).gradient_bytes, 4);
  EXPECT_TRUE(layout({"parallel.backend=CUDA"}).rings);
}

TEST(Plan, GradientsAreExchangedWithOneStageToo) {
  Layout layout = PublishedLayout();
  layout.pp = 1;
  layout.schedule = ScheduleKind::k1F1B;
  layout.batch = 2048 * 8;
  const OptimizerTimes many = PlanOf(layout).step.optimizer;
  const StageContent all{.dense_blocks = 3, .moe_blocks = 58, .embedding = true, .tail = true};
  const StageParameters p = ParametersOf(all, DeepSeekV3(), layout);
  // FP32 gradients of 8 GPUs share a node's 8 adapters, no faster than NVLink; an expert's 32 owners lie on as many nodes.
  const KernelModel kernels(H800(), {});
  EXPECT_NEAR(many.reduce, kernels.Ring(4 * p.dense, 2048, 8) + kernels.Ring(4 * p.experts, 32, 1), 1e-9);
  EXPECT_NEAR(many.gather / many.reduce, 0.5, 0.01);
  EXPECT_GT(many.reduce, 1);
  EXPECT_GT(PlanOf(layout).step_seconds, many.sum() + PlanOf(layout).timeline.makespan);
  ClusterConfig slow = H800();
  slow.mutable_network()->set_gbs(25);
  EXPECT_GT(PlanOf(layout, slow).step.optimizer.reduce, 1.4 * many.reduce);
  layout.gpus = layout.ep = 1;
  const OptimizerTimes one = PlanOf(layout).step.optimizer;
  EXPECT_EQ(one.reduce + one.gather, 0);
  EXPECT_GT(one.update, 0);
}

TEST(Plan, OnePipelineWaitsForNoOther) {
  Layout layout = PublishedLayout();
  layout.gpus = layout.pp = 16;
  layout.ep = 1;
  EXPECT_EQ(PlanOf(layout).waiting, 0);
  layout.gpus = 32;
  EXPECT_GT(PlanOf(layout).waiting, 0);
}

TEST(Plan, Fp32NeedsARateAndTakesLonger) {
  Layout layout = LayoutOf(Preset("deepseek_v3_671b", {"precision.compute=FP32", "precision.gemm=AS_COMPUTE"}), 2048);
  EXPECT_EQ(layout.precision, Precision::kFp32);
  EXPECT_THAT(std::string(ValidateLayout(layout, DeepSeekV3(), H800()).message()),
              HasSubstr("precision.compute = FP32: the table of H800 has no FP32 rate"));
  ClusterConfig cluster = H800();
  cluster.mutable_gpu()->set_fp32_tflops(50);
  const Plan fp32 = PlanOf(layout, cluster);
  layout.precision = Precision::kBf16;
  layout.value_bytes = 2;
  EXPECT_GT(fp32.step_seconds, 8 * PlanOf(layout, cluster).step_seconds);
  EXPECT_NEAR(fp32.step.state[0].weights / PlanOf(layout, cluster).step.state[0].weights, 2, 1e-9);
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
