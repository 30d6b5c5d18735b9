#include "trainer/spec/schedules.h"

#include <gmock/gmock.h>

#include <map>
#include <random>

#include "configs/stages.h"
#include "tests/configs/presets.h"

namespace jevons {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

TEST(LearningRate, FollowsTheReportAtItsBoundaries) {
  const LearningRateConfig config = Preset("deepseek_v3_671b").optimizer().learning_rate();
  EXPECT_DOUBLE_EQ(LearningRate(config, 0, 0), 2.2e-4 / 2000);
  EXPECT_DOUBLE_EQ(LearningRate(config, 999, 1e10), 1.1e-4);
  EXPECT_EQ(LearningRate(config, 1999, 3e10), 2.2e-4);
  EXPECT_EQ(LearningRate(config, 100000, 10e12), 2.2e-4);
  EXPECT_DOUBLE_EQ(LearningRate(config, 100000, 12.15e12), (2.2e-4 + 2.2e-5) / 2);  // half of the cosine
  EXPECT_NEAR(LearningRate(config, 100000, 11.075e12), 2.2e-5 + 1.98e-4 * 0.853553390593,
              1e-15);  // a quarter
  EXPECT_DOUBLE_EQ(LearningRate(config, 100000, 14.3e12), 2.2e-5);
  EXPECT_DOUBLE_EQ(LearningRate(config, 100000, 14.632e12), 2.2e-5);
  EXPECT_EQ(LearningRate(config, 100000, 14.633e12), 7.3e-6);
  EXPECT_EQ(LearningRate(config, 100000, 99e12), 7.3e-6);
}

TEST(LearningRate, WithoutDecayOrWarmUpThePeakHolds) {
  LearningRateConfig config;
  config.set_peak(1e-3);
  EXPECT_EQ(LearningRate(config, 0, 0), 1e-3);
  EXPECT_EQ(LearningRate(config, 1000000, 1e15), 1e-3);
}

TEST(LearningRate, DecaysInTheShapeThatIsAskedFor) {
  LearningRateConfig config;
  config.set_peak(1);
  config.set_constant_tokens(900);
  config.set_decay_tokens(100);
  config.set_final(0.2);
  const std::map<DecayShape, double> quarter = {
      {COSINE, 0.2 + 0.8 * 0.853553390593}, {LINEAR, 0.2 + 0.8 * 0.75}, {ONE_MINUS_SQRT, 0.2 + 0.8 * 0.5}};
  for (const auto& [shape, rate] : quarter) {
    config.set_decay_shape(shape);
    EXPECT_EQ(LearningRate(config, 0, 900), 1);
    EXPECT_NEAR(LearningRate(config, 0, 925), rate, 1e-12);
    EXPECT_EQ(LearningRate(config, 0, 1000), 0.2);
    EXPECT_EQ(LearningRate(config, 0, 2000), 0.2);
  }
}

TEST(LearningRate, TailsWithoutCosineAreSteps) {
  const LearningRateConfig config = Preset("deepseek_v2_lite_16b").optimizer().learning_rate();
  EXPECT_EQ(LearningRate(config, 5000, 1.0639e12), 4.2e-4);
  EXPECT_EQ(LearningRate(config, 5000, 1.064e12), 1.3272e-4);
  EXPECT_EQ(LearningRate(config, 5000, 1.3e12), 4.193952e-5);
}

TEST(Stages, HoldFromTheirTokenOn) {
  const BalanceConfig config = Preset("deepseek_v3_671b").balance();
  EXPECT_EQ(GammaAt(config, 0), 0.001);
  EXPECT_EQ(GammaAt(config, 14.3e12 - 1), 0.001);
  EXPECT_EQ(GammaAt(config, 14.3e12), 0);
  EXPECT_EQ(MtpWeightAt(config, 10e12 - 1), 0.3);
  EXPECT_EQ(MtpWeightAt(config, 10e12), 0.1);
  EXPECT_EQ(GammaAt(BalanceConfig(), 5), 0.001);
  EXPECT_EQ(MtpWeightAt(BalanceConfig(), 5), 0.3);
  BalanceConfig late;
  late.add_bias_speed()->set_tokens(10);
  EXPECT_EQ(GammaAt(late, 9), 0.001);  // before the first stage
  EXPECT_EQ(GammaAt(late, 10), 0);
}

TEST(Batch, RampIsLinearInTokensAndInMicroBatches) {
  TrainConfig config = Preset("deepseek_v3_671b").train();
  EXPECT_EQ(BatchSequences(config, 0), 3072);
  EXPECT_EQ(BatchSequences(config, 469e9 / 2), (3072 + 15360) / 2);
  EXPECT_EQ(BatchSequences(config, 469e9), 15360);
  EXPECT_EQ(BatchSequences(config, 14e12), 15360);
  config.set_batch_sequences(12);
  config.set_batch_ramp_start(1);
  config.set_batch_ramp_tokens(100);
  config.set_micro_batch_sequences(4);
  EXPECT_EQ(BatchSequences(config, 0), 4);   // one micro-batch at least
  EXPECT_EQ(BatchSequences(config, 45), 4);  // 5.95
  EXPECT_EQ(BatchSequences(config, 46), 8);  // 6.06
  EXPECT_EQ(BatchSequences(config, 100), 12);
}

TEST(RunSchedule, DeepSeekV3CoversItsTokens) {
  const RunSchedule schedule(Preset("deepseek_v3_671b"));
  EXPECT_GE(schedule.total_tokens(), 14.8e12);
  EXPECT_LT(schedule.At(schedule.steps() - 1).tokens_before, 14.8e12);
  EXPECT_EQ(schedule.At(0).sequences, 3072);
  EXPECT_EQ(schedule.At(14998).sequences, 15360);
  EXPECT_EQ(schedule.At(1).first_sample, 3072);
  EXPECT_EQ(schedule.At(schedule.steps()).mtp_weight, 0.1);
  EXPECT_EQ(schedule.At(schedule.steps()).gamma, 0);
}

// The plan of any step equals what walking from the first step gives, for random ramps.
TEST(RunSchedule, EqualsTheWalkForRandomRamps) {
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    RunConfig config = Preset("small_cpu");
    const int64_t micro = 1 + random() % 4, full = micro * (1 + random() % 40), length = 1 + random() % 300;
    config.mutable_data()->set_sequence_length(length);
    TrainConfig& train = *config.mutable_train();
    train.set_steps(1 + random() % 2000);
    train.set_micro_batch_sequences(micro);
    train.set_batch_sequences(full);
    train.set_batch_ramp_start(random() % (full + 1));
    train.set_batch_ramp_tokens(train.batch_ramp_start() > 0 ? 1 + static_cast<double>(random() % 1000000) : 0);
    const RunSchedule schedule(config);
    int64_t sample = 0;
    for (int64_t step = 0; step < train.steps(); ++step) {
      const StepPlan plan = schedule.At(step);
      const double tokens = static_cast<double>(sample * length);
      ASSERT_EQ(plan.step, step);
      ASSERT_EQ(plan.first_sample, sample) << "trial " << trial << " step " << step;
      ASSERT_EQ(plan.sequences, BatchSequences(train, tokens));
      ASSERT_EQ(plan.sequences % micro, 0);
      ASSERT_EQ(plan.tokens_before, tokens);
      ASSERT_EQ(plan.learning_rate, LearningRate(config.optimizer().learning_rate(), step, tokens));
      sample += plan.sequences;
    }
  }
}

// The first step count whose tokens suffice, whatever the ramp; steps end it where they are fewer; both alike are exact.
TEST(RunSchedule, TokensEndARunToo) {
  RunConfig config = Preset("small_cpu", {"train.batch_sequences=6", "train.micro_batch_sequences=2", "train.batch_ramp_start=2",
                                          "train.batch_ramp_tokens=500", "data.sequence_length=10"});
  config.mutable_train()->clear_steps();
  for (int64_t enough = 1; enough < 3000; enough += 7) {
    config.mutable_train()->set_tokens(static_cast<double>(enough));
    const RunSchedule schedule(config);
    EXPECT_TRUE(schedule.bounded());
    EXPECT_GE(schedule.total_tokens(), static_cast<double>(enough));
    EXPECT_LT(schedule.At(schedule.steps() - 1).tokens_before, static_cast<double>(enough));
  }
  config.mutable_train()->set_steps(3);
  EXPECT_EQ(RunSchedule(config).steps(), 3);
  config.mutable_train()->clear_steps();
  config.mutable_train()->clear_tokens();
  EXPECT_FALSE(RunSchedule(config).bounded());
  EXPECT_GT(RunSchedule(config).total_tokens(), 1e10);
}

// With stages too, whose every step is planned from what was before it.
TEST(RunSchedule, EqualsTheWalkForRandomStages) {
  std::mt19937_64 random(4);
  for (int trial = 0; trial < 200; ++trial) {
    RunConfig config = Preset("small_cpu");
    TrainConfig& train = *config.mutable_train();
    config.mutable_data()->set_sequence_length(1 + random() % 50);
    train.set_steps(100 + random() % 400);
    train.set_micro_batch_sequences(1);
    train.set_batch_sequences(1 + random() % 30);
    train.set_batch_ramp_start(random() % 2 > 0 ? 1 : 0);
    train.set_batch_ramp_tokens(train.batch_ramp_start() > 0 ? 1 + static_cast<double>(random() % 100000) : 0);
    int64_t from = 0;
    double from_tokens = 0;
    for (uint64_t stages = random() % 4; stages > 0; --stages) {
      StageConfig& stage = *train.add_stage();
      if (random() % 2 > 0) {
        stage.set_from_step(from += 1 + random() % 100);
      } else {
        stage.set_from_tokens(from_tokens += 1 + static_cast<double>(random() % 50000));
      }
      if (random() % 2 > 0) stage.set_sequence_length(1 + random() % 200);
      if (random() % 2 > 0) stage.set_batch_sequences(1 + random() % 30);
      if (random() % 2 > 0) stage.mutable_learning_rate()->set_peak(static_cast<double>(random() % 100));
    }
    const RunSchedule schedule(config);
    const std::vector<RunConfig> configs = StageConfigs(config);
    int64_t sample = 0, token = 0, rate_step = 0, rate_token = 0;
    int stage = 0;
    for (int64_t step = 0; step < train.steps(); ++step) {
      while (stage < train.stage_size()) {
        const StageConfig& next = train.stage(stage);
        if (next.has_from_step() ? step < next.from_step() : static_cast<double>(token) < next.from_tokens()) break;
        ++stage;
        if (!next.has_learning_rate()) continue;
        rate_step = step;
        rate_token = token;
      }
      const RunConfig& now = configs[static_cast<size_t>(stage)];
      const StepPlan plan = schedule.At(step);
      ASSERT_EQ(plan.stage, stage) << "trial " << trial << " step " << step;
      ASSERT_EQ(schedule.StageOf(step), stage);
      ASSERT_EQ(plan.first_sample, sample);
      ASSERT_EQ(plan.tokens_before, static_cast<double>(token));
      ASSERT_EQ(plan.sequences, BatchSequences(now.train(), static_cast<double>(token)));
      ASSERT_EQ(plan.tokens, plan.sequences * now.data().sequence_length());
      ASSERT_EQ(plan.learning_rate,
                LearningRate(now.optimizer().learning_rate(), step - rate_step, static_cast<double>(token - rate_token)));
      sample += plan.sequences;
      token += plan.tokens;
    }
  }
}

// Warm-up, stable, decay: 1000 steps of 2048 tokens of which the last tenth decays; then the same again, from the peak.
TEST(RunSchedule, DecaysAtTheEndOfItsTokensAndOfAStages) {
  const std::string wsd = "peak: 1e-3 final: 1e-5 decay_fraction: 0.1 decay_shape: LINEAR";
  const RunConfig once = Preset("quickstart_cpu", {"optimizer.learning_rate={" + wsd + " warmup_steps: 10}"});
  const RunConfig twice = Preset("quickstart_cpu", {"optimizer.learning_rate={" + wsd + " warmup_steps: 10}", "train.steps=1500",
                                                    "train.stage=[{from_step: 1000 learning_rate {" + wsd + "}}]"});
  for (const RunConfig& config : {once, twice}) {
    const RunSchedule schedule(config);
    EXPECT_DOUBLE_EQ(schedule.At(4).learning_rate, 5e-4);
    for (const int64_t step : {10, 500, 900}) EXPECT_EQ(schedule.At(step).learning_rate, 1e-3) << step;
    EXPECT_NEAR(schedule.At(950).learning_rate, (1e-3 + 1e-5) / 2, 1e-15);
    EXPECT_NEAR(schedule.At(999).learning_rate, 1e-5 + 9.9e-4 / 100, 1e-15);
  }
  const RunSchedule schedule(twice);
  EXPECT_EQ(schedule.At(1000).learning_rate, 1e-3);
  EXPECT_EQ(schedule.At(1450).learning_rate, 1e-3);
  EXPECT_NEAR(schedule.At(1475).learning_rate, (1e-3 + 1e-5) / 2, 1e-15);
  std::vector<int64_t> kept;
  for (int64_t steps = 0; steps < 1500; ++steps)
    if (schedule.KeepsAfter(steps)) kept.push_back(steps);
  EXPECT_EQ(kept, (std::vector<int64_t>{901, 1000, 1451})) << "before the first step of a lower rate, and after the last";
  const RunSchedule cosine(Preset("quickstart_cpu"));
  for (int64_t steps = 0; steps < 1000; ++steps) ASSERT_FALSE(cosine.KeepsAfter(steps)) << "no constant part: nothing to keep";
}

// Of a run of 1000 steps of 2048 tokens.
TEST(RunSchedule, StagesThatNoStepIsInAndDecaysThatAreCutShortAreRefused) {
  const auto refusal = [](const std::string& stages, const std::vector<std::string>& more = {}) {
    std::vector<std::string> overrides = {"train.stage=[" + stages + "]"};
    overrides.insert(overrides.end(), more.begin(), more.end());
    const absl::Status status = RunSchedule(Preset("quickstart_cpu", overrides)).CheckStages();
    EXPECT_TRUE(status.ok() || ExitCodeOf(status) == ExitCode::kUsage) << status;
    return std::string(status.message());
  };
  const std::string constant = "optimizer.learning_rate={peak: 1e-3}";
  EXPECT_EQ(refusal("{from_step: 1}, {from_tokens: 2045952}"), "");
  EXPECT_EQ(
      refusal("{from_step: 1000}"),
      "train.stage[0].from_step = 1000: the run ends before it, after 1000 steps and 2048000 tokens; let it begin earlier, or "
      "the run be longer");
  EXPECT_EQ(refusal("{from_step: 999}"), "");
  EXPECT_THAT(refusal("{from_step: 5}, {from_tokens: 2045953}"),
              StartsWith("train.stage[1].from_tokens = 2045953: the run ends"));
  EXPECT_THAT(refusal("{from_tokens: 10000}, {from_step: 5}"),
              StartsWith("train.stage[0].from_tokens = 10000: it has no step, for train.stage[1] begins at step 5; "));
  EXPECT_EQ(refusal("{from_tokens: 10000}, {from_step: 6}"), "");
  EXPECT_EQ(refusal("{from_step: 5000}", {"train.steps=10000000000", "train.dollars=3"}), "");

  EXPECT_EQ(refusal("{from_step: 5}"), "") << "the decay goes on";
  EXPECT_EQ(
      refusal("{from_step: 5 learning_rate {peak: 1e-3}}"),
      "optimizer.learning_rate.decay_tokens = 2048000: after constant_tokens = 0 it takes longer than the 10240 tokens until "
      "the learning rate of train.stage[0]; make it shorter, or say decay_fraction");
  const std::string rate = "learning_rate {peak: 1e-3 constant_tokens: 2048 decay_tokens: ";
  EXPECT_EQ(refusal("{from_step: 990 " + rate + "18432}}", {constant}), "");
  EXPECT_THAT(refusal("{from_step: 990 " + rate + "18433}}", {constant}),
              AllOf(StartsWith("train.stage[0].learning_rate.decay_tokens = 18433: after constant_tokens = 2048 "),
                    HasSubstr("the 20480 tokens until the end of the run;")));
  EXPECT_THAT(refusal("{from_step: 980 " + rate + "18433}}, {from_step: 990 learning_rate {peak: 1e-5}}", {constant}),
              HasSubstr("the 20480 tokens until the learning rate of train.stage[1];"));
  EXPECT_EQ(refusal("{from_step: 990 learning_rate {peak: 1e-3 decay_fraction: 1}}", {constant}), "");
}

TEST(RunSchedule, AnEndlessRampCostsNothing) {
  const RunConfig config =
      Preset("small_cpu", {"train.steps=10000000000", "train.batch_sequences=1000000", "train.micro_batch_sequences=1",
                           "train.batch_ramp_start=1", "train.batch_ramp_tokens=1e18", "data.sequence_length=1"});
  const RunSchedule schedule(config);
  EXPECT_EQ(schedule.At(9999999999).sequences, 1);  // 1e10 tokens of 1e18
  EXPECT_EQ(schedule.At(9999999999).first_sample, 9999999999);
}

}  // namespace
}  // namespace jevons
