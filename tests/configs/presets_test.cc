#include "tests/configs/presets.h"

#include <cmath>

#include "configs/stages.h"
#include "configs/validate.h"

namespace jevons {
namespace {

TEST(Presets, AllValidate) {
  EXPECT_TRUE(ValidationStatus(Preset("quickstart_cpu"), 4).ok()) << ValidationStatus(Preset("quickstart_cpu"), 4);
  EXPECT_TRUE(ValidationStatus(Preset("small_cpu"), 1).ok());
  EXPECT_TRUE(ValidationStatus(Preset("fp8_gap_cpu"), 2).ok());
  EXPECT_TRUE(ValidationStatus(Preset("deepseek_v2_lite_16b"), 8).ok());
  EXPECT_TRUE(ValidationStatus(Preset("deepseek_v3_671b"), 0).ok());
  EXPECT_TRUE(ValidationStatus(Preset("deepseek_v3_671b", {"parallel.pp=1"}), 64).ok());
  EXPECT_TRUE(ValidationStatus(Preset("deepseek_v3_671b"), 2048).ok());
  EXPECT_EQ(Validate(Preset("deepseek_v3_671b"), 64).size(), 1) << "4 ranks for each of the stages, whose experts are on 64";
  EXPECT_TRUE(ValidationStatus(Preset("v3_thousandth_cpu"), 8).ok());
  EXPECT_TRUE(ValidationStatus(Preset("mlperf_v6_deepseek_v3"), 256).ok())
      << ValidationStatus(Preset("mlperf_v6_deepseek_v3"), 256);
}

TEST(Presets, AnExpertCountThatTheGroupsDoNotDivide) {
  const absl::Status status = ValidationStatus(Preset("quickstart_cpu", {"model.moe.routed_experts=7"}), 1);
  EXPECT_EQ(status.message(), "model.moe.routed_experts = 7: must be divisible by model.moe.groups = 4; nearest legal: 8");
}

// Each number of the report (arXiv 2412.19437, 4.2), apart from the shapes, which the parameter counts check.
TEST(Presets, DeepSeekV3HasTheReportsHyperParameters) {
  const RunConfig config = Preset("deepseek_v3_671b");
  EXPECT_EQ(config.model().init_std(), 0.006);
  EXPECT_EQ(config.model().norm_eps(), 1e-6);
  EXPECT_EQ(config.model().moe().route_scale(), 2.5);
  EXPECT_EQ(config.model().moe().groups(), 8);
  EXPECT_EQ(config.model().moe().kept_groups(), 4);
  EXPECT_EQ(config.data().fim_rate(), 0.1);
  EXPECT_FALSE(config.data().document_mask());
  EXPECT_EQ(config.train().batch_ramp_start(), 3072);
  EXPECT_EQ(config.train().batch_sequences(), 15360);
  EXPECT_EQ(config.train().batch_ramp_tokens(), 469e9);
  EXPECT_EQ(config.optimizer().beta1(), 0.9);
  EXPECT_EQ(config.optimizer().beta2(), 0.95);
  EXPECT_EQ(config.optimizer().weight_decay(), 0.1);
  EXPECT_EQ(config.optimizer().clip_norm(), 1.0);
  EXPECT_EQ(config.optimizer().moments(), MOMENTS_BF16);
  EXPECT_EQ(config.balance().sequence_loss(), 1e-4);
  EXPECT_EQ(config.parallel().ep(), 64);
}

// TR 4.3: the pre-training as it is, then 1000 steps of 32K and 1000 of 128K.
TEST(Presets, TheReportsContextExtensionIsItsPreTrainingAndTwoStages) {
  RunConfig config = Preset("deepseek_v3_671b_128k");
  EXPECT_TRUE(ValidationStatus(config, 2048).ok()) << ValidationStatus(config, 2048);
  const RunConfig before = Preset("deepseek_v3_671b");
  const std::vector<RunConfig> stages = StageConfigs(config);
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(config.train().stage(0).from_step(), before.train().steps());
  EXPECT_EQ(config.train().stage(1).from_step(), before.train().steps() + 1000);
  EXPECT_EQ(config.train().steps(), before.train().steps() + 2000);
  for (const size_t stage : {1, 2}) {
    const auto& train = stages[stage].train();
    EXPECT_EQ(train.batch_sequences() * stages[stage].data().sequence_length(), 15360 * 4096) << "the tokens of a step stay";
    EXPECT_EQ(stages[stage].model().attention().yarn().factor(), 40);
  }
  EXPECT_EQ(stages[1].train().batch_sequences(), 1920);
  EXPECT_EQ(stages[2].train().batch_sequences(), 480);
  config.mutable_train()->clear_stage();
  config.mutable_train()->set_steps(before.train().steps());
  EXPECT_EQ(ResolvedText(config), ResolvedText(before));
}

TEST(Presets, TheMiniatureExtendsItsContextFourTimes) {
  const RunConfig config = Preset("context_extension_cpu");
  EXPECT_TRUE(ValidationStatus(config, 2).ok()) << ValidationStatus(config, 2);
  const std::vector<RunConfig> stages = StageConfigs(config);
  EXPECT_EQ(stages[1].data().sequence_length(), 4 * stages[0].data().sequence_length());
  EXPECT_EQ(stages[1].model().attention().yarn().factor(), 4);
  EXPECT_EQ(stages[1].model().attention().yarn().original_length(), stages[0].data().sequence_length());
}

// The benchmark's rule for the learning rate, and the model of the report but for its vocabulary.
TEST(Presets, MlperfsBenchmarkKeepsItsRules) {
  const RunConfig config = Preset("mlperf_v6_deepseek_v3");
  const auto batch = static_cast<double>(config.train().batch_sequences());
  const LearningRateConfig& rate = config.optimizer().learning_rate();
  EXPECT_NEAR(rate.peak(), 2.4e-5 * std::sqrt(batch / 16384), 1e-9);
  const double step = batch * static_cast<double>(config.data().sequence_length());
  EXPECT_EQ(rate.constant_tokens(), 4 * step);
  EXPECT_EQ(rate.decay_tokens(), 11996 * step);
  EXPECT_EQ(static_cast<double>(config.train().steps()) * batch, 721920);
  ModelConfig model = config.model();
  model.set_vocab_size(Preset("deepseek_v3_671b").model().vocab_size());
  EXPECT_EQ(model.SerializeAsString(), Preset("deepseek_v3_671b").model().SerializeAsString());
}

}  // namespace
}  // namespace jevons
