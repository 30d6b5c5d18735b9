// Runs of several stages: another length with YaRN, another batch, another mixture, another learning rate.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>

#include <map>

#include "kernels/base/check.h"
#include "tests/support/train_run.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/run/state.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

using testing::HasSubstr;

class StagesTest : public TrainTest {
 protected:
  void SetUp() override {
    TrainTest::SetUp();
    config_.mutable_train()->set_steps(8);
    config_.mutable_train()->set_batch_sequences(6);
    config_.mutable_checkpoint()->set_keep(20);
  }

  void AddStage(const std::string& text) {
    JEVONS_CHECK(google::protobuf::TextFormat::ParseFromString(text, config_.mutable_train()->add_stage()));
  }
  // Context extension in two stages, the second of which begins in the ramp's tokens.
  void ExtendContext() {
    AddStage(
        "from_step: 3 sequence_length: 48 batch_sequences: 4 micro_batch_sequences: 2 yarn { factor: 4 original_length: 12 } "
        "learning_rate { peak: 1e-3 "
        "decay_fraction: 0.5 decay_shape: ONE_MINUS_SQRT }");
    AddStage("from_tokens: 700 sequence_length: 24 batch_sequences: 3 micro_batch_sequences: 1");
  }

  RunConfig Resolved() const {
    RunConfig config = config_;
    config.mutable_model()->set_vocab_size(320);
    return config;
  }

  CheckpointReader Newest(const std::string& output) const {
    const auto steps = CommittedSteps(PosixFileSystem(), output + "/checkpoints");
    JEVONS_CHECK(steps.ok() && !steps->empty());
    return *CheckpointReader::Open(PosixFileSystem(), *CheckpointPath(PosixFileSystem(), output + "/checkpoints", steps->back()));
  }

  // Of each step of the run, by name.
  std::map<int64_t, double> Recorded(const std::string& output, const std::string& name) const {
    std::map<int64_t, double> values;
    std::ifstream file(output + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const auto record = FromJsonLine(line + "\n");
      if (!record) continue;
      for (const auto& [key, value] : record->values)
        if (key == name) values[record->step] = value;
    }
    return values;
  }
};

TEST_F(StagesTest, ResumesBitwiseInEveryStageAndAcrossTheirBoundariesOnOtherLayouts) {
  ExtendContext();
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight")).ok());
  const std::string straight = Hash(Folder("straight"));
  const std::vector<std::pair<int, int>> layouts = {{2, 2}, {1, 1}, {3, 1}, {4, 4}, {2, 1}};
  for (int stop = 1; stop < 8; ++stop) {
    const std::string output = Folder("resumed" + std::to_string(stop));
    const std::atomic<int> signal = 15;
    ASSERT_EQ(ExitCodeOf(TrainOn(1, 1, output, &signal)), ExitCode::kPreempted);  // after one step
    for (int step = 2; step <= stop; ++step) {
      const auto& [ranks, ep] = layouts[static_cast<size_t>(step) % layouts.size()];
      ASSERT_EQ(ExitCodeOf(TrainOn(ranks, ep, output, &signal)), ExitCode::kPreempted);
    }
    const auto& [ranks, ep] = layouts[static_cast<size_t>(stop) % layouts.size()];
    ASSERT_TRUE(TrainOn(ranks, ep, output).ok());
    EXPECT_EQ(Hash(output), straight) << "stopped after step " << stop;
  }
  const RunSchedule schedule(config_);
  EXPECT_EQ(schedule.StageOf(2), 0);
  EXPECT_EQ(schedule.StageOf(3), 1);
  EXPECT_EQ(schedule.StageOf(schedule.steps() - 1), 2);
  const auto sampler = SamplerState::Parse(Newest(Folder("straight")).sampler_state());
  ASSERT_TRUE(sampler.ok());
  EXPECT_EQ(sampler->seq_len, 24);
  EXPECT_EQ(sampler->next_sample, schedule.At(8).first_sample);
  EXPECT_EQ(
      static_cast<double>(sampler->extents[0].begin + (sampler->next_sample - schedule.StreamStages()[1].first_sample) * 24),
      schedule.total_tokens());
}

TEST_F(StagesTest, PipelinesTrainTheSameBits) {
  config_.mutable_model()->set_layers(4);
  config_.mutable_train()->set_batch_sequences(8);
  ExtendContext();
  for (StageConfig& stage : *config_.mutable_train()->mutable_stage()) {
    stage.set_micro_batch_sequences(1);
    stage.set_batch_sequences(8);
  }
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight")).ok());
  for (const ScheduleType schedule : {ONE_F_ONE_B, ZB_H1, DUALPIPEV}) {
    config_.mutable_parallel()->set_pp(2);
    config_.mutable_parallel()->set_schedule(schedule);
    const std::string output = Folder(ScheduleType_Name(schedule));
    ASSERT_TRUE(CheckPipeline(Resolved(), 4).ok()) << CheckPipeline(Resolved(), 4);
    ASSERT_TRUE(TrainOn(4, 2, output).ok());
    EXPECT_EQ(Hash(output), Hash(Folder("straight"))) << ScheduleType_Name(schedule);
  }
  config_.mutable_train()->mutable_stage(1)->set_batch_sequences(3);
  const absl::Status few = CheckPipeline(Resolved(), 4);  // for two DUALPIPEV pipelines
  EXPECT_EQ(ExitCodeOf(few), ExitCode::kUsage) << few;
  EXPECT_THAT(std::string(few.message()), HasSubstr("train.batch_sequences = 3"));
}

// A stage that sets what holds anyway is no stage: the same weights, moments, biases and samples.
TEST_F(StagesTest, ABoundaryAloneChangesNothing) {
  config_.mutable_precision()->set_compute(BF16);
  config_.mutable_precision()->set_gemm(FP8_BLOCK);
  ASSERT_TRUE(TrainOn(2, 2, Folder("plain")).ok());
  AddStage("from_step: 3 sequence_length: 12 micro_batch_sequences: 1");
  AddStage("from_step: 5");
  ASSERT_TRUE(TrainOn(2, 2, Folder("staged")).ok());
  EXPECT_EQ(Hash(Folder("staged")), Hash(Folder("plain")));
  for (const char* name : {"loss/main", "tokens", "learning_rate"})
    EXPECT_EQ(Recorded(Folder("staged"), name), Recorded(Folder("plain"), name)) << name;
}

TEST_F(StagesTest, AResumedRunMayDeclareAStageThatIsNotBegun) {
  config_.mutable_data()->set_shuffle_samples(false);
  const RunConfig plain = config_;
  ExtendContext();
  ASSERT_TRUE(TrainOn(1, 1, Folder("declared")).ok());
  const RunConfig staged = config_;
  config_ = plain;
  config_.mutable_train()->set_steps(3);
  ASSERT_TRUE(TrainOn(2, 2, Folder("later")).ok());
  config_ = staged;
  ASSERT_TRUE(TrainOn(1, 1, Folder("later")).ok());
  EXPECT_EQ(Hash(Folder("later")), Hash(Folder("declared")));
}

TEST_F(StagesTest, WhatIsNotDeclaredIsRefused) {
  const RunConfig plain = config_;
  ExtendContext();
  const RunConfig staged = config_;
  const std::atomic<int> signal = 15;
  for (int step = 1; step <= 5; ++step) ASSERT_EQ(ExitCodeOf(TrainOn(1, 1, Folder("run"), &signal)), ExitCode::kPreempted);
  const auto refused = [&](const std::string& what) {
    const absl::Status status = TrainOn(2, 1, Folder("run"));
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  };
  config_ = plain;
  refused("holds another model");
  config_ = staged;
  config_.mutable_train()->mutable_stage(0)->mutable_yarn()->set_factor(2);
  refused("factor");
  config_ = staged;
  config_.mutable_train()->mutable_stage(0)->set_batch_sequences(2);
  refused("train.batch_sequences = 6, its ramp and train.stage");
  config_ = staged;
  config_.mutable_train()->mutable_stage(0)->set_sequence_length(24);
  refused("sequence_length was 48 in the checkpoint and is 24 now");
  config_ = staged;
  EXPECT_TRUE(TrainOn(2, 1, Folder("run")).ok());

  config_ = plain;  // whose samples are shuffled
  config_.mutable_train()->set_steps(2);
  ASSERT_TRUE(TrainOn(1, 1, Folder("run2")).ok());
  config_ = staged;
  const absl::Status status = TrainOn(1, 1, Folder("run2"));
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("declared before the epoch begins"));
}

// Plain, stable and decay twice: a checkpoint where each decay begins and ends, whatever else is kept, and a resume in each.
TEST_F(StagesTest, KeepsWhatWasBeforeAndAfterEachDecay) {
  config_.mutable_checkpoint()->set_keep(1);
  config_.mutable_train()->clear_batch_ramp_start();
  config_.mutable_train()->clear_batch_ramp_tokens();
  config_.mutable_train()->set_steps(13);
  LearningRateConfig& rate = *config_.mutable_optimizer()->mutable_learning_rate();
  rate.set_decay_fraction(0.5);
  rate.set_decay_shape(LINEAR);
  AddStage("from_step: 6 learning_rate { peak: 3e-3 decay_fraction: 0.5 decay_shape: LINEAR }");
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight")).ok());
  const auto kept = CommittedSteps(PosixFileSystem(), Folder("straight") + "/checkpoints");
  EXPECT_EQ(*kept, (std::vector<int64_t>{4, 6, 10, 13}));
  const std::atomic<int> signal = 15;
  while (ExitCodeOf(TrainOn(2, 2, Folder("stepwise"), &signal)) == ExitCode::kPreempted) {
  }
  EXPECT_EQ(Hash(Folder("stepwise")), Hash(Folder("straight")));
  EXPECT_EQ(*CommittedSteps(PosixFileSystem(), Folder("stepwise") + "/checkpoints"), *kept);
  const auto rates = Recorded(Folder("straight"), "learning_rate");
  EXPECT_EQ(rates, Recorded(Folder("stepwise"), "learning_rate"));
}

// The network is used as the stage of its last step used it.
TEST_F(StagesTest, ACheckpointKnowsItsStage) {
  ExtendContext();
  const std::atomic<int> signal = 15;
  for (int step = 1; step <= 3; ++step) ASSERT_EQ(ExitCodeOf(TrainOn(1, 1, Folder("run"), &signal)), ExitCode::kPreempted);
  EXPECT_EQ(StageConfigOf(Newest(Folder("run")))->model().attention().yarn().factor(), 1);
  ASSERT_EQ(ExitCodeOf(TrainOn(1, 1, Folder("run"), &signal)), ExitCode::kPreempted);
  EXPECT_EQ(StageConfigOf(Newest(Folder("run")))->model().attention().yarn().factor(), 4);
  EXPECT_EQ(StageConfigOf(Newest(Folder("run")))->data().sequence_length(), 48);
}

// Of all stages the largest, and a run's steps take what is planned.
TEST_F(StagesTest, MemoryIsPlannedForTheLargestStage) {
  const RunConfig plain = Resolved();
  const MeshShape mesh{.world = 1, .pp = 1, .ep = 1};
  const int64_t before = PlanMemory(plain, mesh, 0).use.activations;
  ExtendContext();
  const RunConfig staged = Resolved();
  RunConfig largest = plain;
  largest.mutable_data()->set_sequence_length(48);
  largest.mutable_train()->set_micro_batch_sequences(2);
  EXPECT_GT(PlanMemory(staged, mesh, 0).use.activations, before);
  EXPECT_EQ(PlanMemory(staged, mesh, 0).use.activations, PlanMemory(largest, mesh, 0).use.activations);
  RunSummary summary;
  ASSERT_TRUE(TrainOn(1, 1, Folder("run"), nullptr, &summary).ok());
  EXPECT_EQ(summary.memory.total(), summary.planned.total());
}

}  // namespace
}  // namespace jevons
