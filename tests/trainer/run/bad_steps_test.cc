// Runs that leave steps out: records, costs, and what a resumed run makes of them.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <optional>

#include "tests/support/train_run.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/run/replay.h"

namespace jevons {
namespace {

using testing::HasSubstr;

constexpr int kSteps = 12;

class BadStepsTest : public TrainTest {
 protected:
  // So narrow a margin that ordinary steps are spikes now and then.
  void SetUp() override {
    TrainTest::SetUp();
    config_.mutable_train()->set_steps(kSteps);
    config_.mutable_train()->set_batch_ramp_tokens(300);
    BadStepConfig& bad = *config_.mutable_train()->mutable_bad_step();
    bad.set_policy(SKIP);
    bad.set_spike_sigmas(1);
    bad.set_spike_window(3);
    bad.set_most_in_a_row(kSteps);
    config_.mutable_checkpoint()->set_keep(kSteps);
  }

  // A step of the run "run", from the checkpoint of step `from`; 0: from the beginning.
  ReplayedStep Replayed(int64_t step, int64_t from, int ranks, int ep) const {
    ReplayedStep replayed;
    RunConfig config = config_;
    config.mutable_parallel()->set_ep(ep);
    const ReplayOptions options{.inputs = ResolveInputs(config).value(), .run = Folder("run"), .step = step};
    RunLoopback(ranks, [&](Communicator& world) {
      Mesh mesh(world, {.world = ranks, .pp = 1, .ep = ep});
      std::optional<CheckpointReader> reader;
      if (from > 0)
        reader = CheckpointReader::Open(PosixFileSystem(),
                                        CheckpointPath(PosixFileSystem(), Folder("run") + "/checkpoints", from).value())
                     .value();
      auto result = Replay(options, reader ? &*reader : nullptr, mesh);
      ASSERT_TRUE(result.ok()) << result.status();
      if (world.rank() == 0) replayed = *std::move(result);
    });
    return replayed;
  }

  static std::vector<MetricsRecord> Records(const std::string& output) {
    std::ifstream file(output + "/metrics.jsonl");
    std::vector<MetricsRecord> records;
    for (std::string line; std::getline(file, line);) records.push_back(FromJsonLine(line + "\n").value());
    return records;
  }
  static std::map<int64_t, MetricsRecord> BadOnes(const std::string& output) {
    std::map<int64_t, MetricsRecord> bad;
    for (const MetricsRecord& record : Records(output))
      if (!record.texts.empty()) bad[record.step] = record;
    return bad;
  }
  static double ValueOf(const MetricsRecord& record, const std::string& name) {
    for (const auto& [key, value] : record.values)
      if (key == name) return value;
    ADD_FAILURE() << name;
    return 0;
  }
};

TEST_F(BadStepsTest, AreRecordedAndCharged) {
  RunSummary summary;
  ASSERT_TRUE(TrainOn(2, 2, Folder("run"), nullptr, &summary, {.price_per_device_hour = 3600}).ok());
  const auto bad = BadOnes(Folder("run"));
  ASSERT_GT(bad.size(), 0u);
  ASSERT_LT(bad.size(), kSteps - 3u);
  int64_t tokens = 0, applied = 0, applied_tokens = 0;
  for (const auto& [step, record] : bad) {
    EXPECT_GT(step, 3) << "before that there are too few to judge by";
    EXPECT_EQ(record.texts[0].first, "bad_step/reason");
    EXPECT_THAT(record.texts[0].second, HasSubstr("standard deviations above"));
    EXPECT_EQ(record.texts[1].second.size(), 16u);
    tokens += static_cast<int64_t>(ValueOf(record, "bad_step/sequences")) * config_.data().sequence_length();
  }
  for (const MetricsRecord& record : Records(Folder("run"))) {
    if (record.values.front().first != "loss/main") continue;
    EXPECT_EQ(bad.count(record.step), 0u);
    ++applied;
    applied_tokens += static_cast<int64_t>(ValueOf(record, "sequences")) * config_.data().sequence_length();
  }
  EXPECT_EQ(applied + static_cast<int64_t>(bad.size()), kSteps);
  EXPECT_EQ(summary.ledger.skipped_steps(), static_cast<int64_t>(bad.size()));
  EXPECT_EQ(summary.ledger.skipped_tokens(), tokens);
  EXPECT_EQ(summary.ledger.tokens(), applied_tokens);
  EXPECT_GT(summary.ledger.wasted_device_seconds(), 0);
  EXPECT_LT(summary.ledger.wasted_device_seconds(), summary.ledger.device_seconds());
  EXPECT_NEAR(summary.ledger.wasted_dollars(), summary.ledger.wasted_device_seconds(), 1e-9);
}

// Stopped after every step, before, at and after bad ones, and resumed on another layout.
TEST_F(BadStepsTest, AResumedRunJudgesAsOneThatWasNot) {
  ASSERT_TRUE(TrainOn(1, 1, Folder("straight")).ok());
  const auto bad = BadOnes(Folder("straight"));
  ASSERT_GT(bad.size(), 0u);
  const std::vector<std::pair<int, int>> layouts = {{2, 2}, {1, 1}, {3, 1}, {4, 4}, {2, 1}};
  for (int step = 1; step <= kSteps; ++step) {
    config_.mutable_train()->set_steps(step);
    const auto& [ranks, ep] = layouts[static_cast<size_t>(step) % layouts.size()];
    ASSERT_TRUE(TrainOn(ranks, ep, Folder("relay")).ok());
  }
  EXPECT_EQ(Hash(Folder("relay")), Hash(Folder("straight")));
  const auto again = BadOnes(Folder("relay"));
  ASSERT_EQ(again.size(), bad.size());
  for (const auto& [step, record] : bad) EXPECT_EQ(again.at(step).texts, record.texts) << step;
  // And what it skipped it left out: applied, they make other weights.
  config_.mutable_train()->mutable_bad_step()->set_spike_sigmas(0);
  ASSERT_TRUE(TrainOn(1, 1, Folder("applied")).ok());
  EXPECT_NE(Hash(Folder("applied")), Hash(Folder("straight")));
}

// Weights that give nothing but NaN are no bad luck: the checkpoints since they went wrong are named.
TEST_F(BadStepsTest, TooManyInARowStopTheRun) {
  config_.mutable_optimizer()->mutable_learning_rate()->set_peak(1e30);
  config_.mutable_optimizer()->mutable_learning_rate()->set_warmup_steps(0);
  config_.mutable_train()->mutable_bad_step()->set_most_in_a_row(3);
  config_.mutable_checkpoint()->set_interval(1);
  const absl::Status status = TrainOn(2, 2, Folder("run"));
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kNumerical) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("train.bad_step.most_in_a_row = 3: step 5: "));
  // After skipped steps nothing was saved, though a save was due each time: it would push out the checkpoints before. The save of step 1
  // may have been done when the weights were found to be at fault, or given up.
  const std::vector<int64_t> saved = CommittedSteps(PosixFileSystem(), Folder("run") + "/checkpoints").value();
  for (const int64_t step : saved) {
    EXPECT_EQ(step, 1);
    EXPECT_THAT(std::string(status.message()), HasSubstr("step-00000001 has these weights: remove it"));
  }
  EXPECT_THAT(std::string(status.message()), HasSubstr("There is no checkpoint before it: the same command begins anew"));
  EXPECT_EQ(BadOnes(Folder("run")).size(), 4u);
  // What there is to see of such a step, on any layout: it is the one that the run had.
  for (const int ranks : {1, 3}) {
    const ReplayedStep replayed = Replayed(3, 0, ranks, 1);
    EXPECT_EQ(replayed.as_recorded, true);
    EXPECT_EQ(replayed.reason, BadOnes(Folder("run")).at(3).texts[0].second);
    ASSERT_FALSE(replayed.parameters.empty());
    for (const ParameterGradient& parameter : replayed.parameters) EXPECT_TRUE(parameter.refused) << parameter.name;
    EXPECT_THAT(ReplayText(replayed), HasSubstr("the first that the backward pass makes first:"));
  }
}

// Every step of a run, from every checkpoint before it, on other layouts: the bits that the run had.
TEST_F(BadStepsTest, ReplayGivesTheStepsBits) {
  config_.mutable_checkpoint()->set_interval(3);
  ASSERT_TRUE(TrainOn(2, 2, Folder("run")).ok());
  const std::vector<int64_t> saved = CommittedSteps(PosixFileSystem(), Folder("run") + "/checkpoints").value();
  const auto bad = BadOnes(Folder("run"));
  for (int64_t step = 1; step <= kSteps; ++step) {
    SCOPED_TRACE(step);
    const auto after = std::lower_bound(saved.begin(), saved.end(), step);
    const ReplayedStep once = Replayed(step, after == saved.begin() ? 0 : *std::prev(after), 1, 1);
    const ReplayedStep other = Replayed(step, after == saved.begin() ? 0 : saved.front(), 3, 3);
    EXPECT_EQ(once.as_recorded, true);
    EXPECT_EQ(other.as_recorded, true);
    EXPECT_EQ(once.gradient_hash, other.gradient_hash);
    EXPECT_EQ(once.result.losses, other.result.losses);
    const auto recorded = bad.find(step);
    EXPECT_EQ(once.reason, recorded == bad.end() ? "" : recorded->second.texts[0].second);
    EXPECT_EQ(other.pipelines.size(), 3u);
    ASSERT_EQ(static_cast<int64_t>(once.samples.size()), once.plan.sequences);
    for (const ReplayedSample& sample : once.samples) {
      int64_t tokens = 0;
      for (const DocumentPart& part : sample.parts) tokens += part.tokens;
      EXPECT_EQ(tokens, config_.data().sequence_length() + 1);
    }
    double squares = 0;
    for (const ParameterGradient& parameter : once.parameters) squares += parameter.norm * parameter.norm;
    EXPECT_LE(squares, once.result.gradient.norm * once.result.gradient.norm * (1 + 1e-9));
    EXPECT_GE(once.parameters.front().norm, once.parameters.back().norm);
  }
  EXPECT_THAT(ReplayText(Replayed(2, 0, 1, 1)), HasSubstr("the run's record the same bits"));
}

}  // namespace
}  // namespace jevons
