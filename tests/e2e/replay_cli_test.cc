// Steps that are skipped, and replayed, as a user meets them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/train_cli.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

class ReplayCli : public TrainCli {
 protected:
  static std::vector<Json> BadSteps(const std::string& run) {
    std::ifstream file(folder_ / run / "metrics.jsonl");
    std::vector<Json> bad;
    for (std::string line; std::getline(file, line);)
      if (Json record = Json::parse(line); record.contains("bad_step/reason")) bad.push_back(record);
    return bad;
  }
  // The JSON of a replay on so many ranks.
  static Json Replay(const std::string& run, int step, int ranks, const std::vector<std::string>& overrides) {
    std::vector<std::string> command = OnRanks(ranks, {"replay", folder_ / run, "--step", std::to_string(step), "--json"});
    for (const std::string& override_text : overrides) command.insert(command.end(), {"--set", override_text});
    const ProcessResult result = RunProcess(std::move(command), kTimeout);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  }
};

TEST_F(ReplayCli, ASkippedStepIsSaidAndReplayed) {
  // So narrow a margin that some ordinary step is beyond it.
  const std::vector<std::string> skipping = {"train.bad_step.policy=SKIP",    "train.bad_step.spike_sigmas=1",
                                             "train.bad_step.spike_window=3", "train.bad_step.most_in_a_row=12",
                                             "checkpoint.interval=1",         "checkpoint.keep=12"};
  const ProcessResult trained = Train(2, 2, "run", skipping);
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const std::vector<Json> bad = BadSteps("run");
  ASSERT_FALSE(bad.empty());
  const int step = bad.front()["step"];
  EXPECT_THAT(trained.err, HasSubstr(absl::StrCat("step ", step, "/12 was skipped: ")));
  EXPECT_THAT(trained.out, HasSubstr(absl::StrCat(bad.size(), bad.size() == 1 ? " step of " : " steps of ", bad.size() * 6 * 32,
                                                  " tokens skipped")));
  EXPECT_THAT(Jevons({"inspect", folder_ / "run"}).out,
              AllOf(HasSubstr(absl::StrCat("step ", step, ": the ")), HasSubstr(" skipped), ")));
  const std::string metrics_before = Jevons({"inspect", folder_ / "run", "--json"}).out;
  for (const int replayed : {step, 12}) {
    const Json one = Replay("run", replayed, 1, {});
    EXPECT_EQ(one["as_recorded"], true) << one;
    EXPECT_EQ(one["samples"].size(), 6u);
    EXPECT_EQ(one["samples"][0]["sample"], (replayed - 1) * 6);
    EXPECT_FALSE(one["parameters"].empty());
    for (const auto& [ranks, overrides] :
         std::vector<std::pair<int, std::vector<std::string>>>{{3, {"parallel.ep=1"}}, {2, {"parallel.ep=1", "parallel.pp=2"}}}) {
      const Json other = Replay("run", replayed, ranks, overrides);
      for (const char* same :
           {"gradient_hash", "gradient_norm", "loss", "losses", "reason", "as_recorded", "samples", "parameters"})
        EXPECT_EQ(other[same], one[same]) << same << " on " << ranks << " ranks";
    }
  }
  EXPECT_EQ(Jevons({"inspect", folder_ / "run", "--json"}).out, metrics_before) << "a replay writes nothing";
}

// From the beginning, by the run's own config.textproto, whatever its layout was.
TEST_F(ReplayCli, ReplaysWhatIsOlderThanAnyCheckpoint) {
  ASSERT_EQ(
      Train(2, 2, "early",
            {"train.steps=3", "train.bad_step.policy=SKIP", "train.bad_step.spike_sigmas=0.001", "train.bad_step.spike_window=2"})
          .exit_code,
      0);
  const std::string run = folder_ / "early";
  const ProcessResult result = Jevons({"replay", run, "--step", "2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(StartsWith("step             2, from the beginning\nverdict          good\n"),
                                HasSubstr("the run's record the same bits\n"),
                                HasSubstr("parameters with the largest gradients:\n"), HasSubstr(" tokens of document ")));
  for (const int ranks : {1, 2}) {
    const Json third = Replay("early", 3, ranks, {});
    EXPECT_EQ(third["from"], 0);
    EXPECT_EQ(third["as_recorded"], true) << ranks;
  }
  // What differs on purpose is told from the record.
  EXPECT_EQ(Replay("early", 2, 1, {"train.seed=2"})["as_recorded"], false);

  const ProcessResult ranks = RunProcess(OnRanks(4, {"replay", run, "--step", "2", "--set", "parallel.ep=3"}), kTimeout);
  EXPECT_EQ(ranks.exit_code, 2);
  EXPECT_THAT(ranks.err, HasSubstr("parallel.ep = 3"));
  fs::rename(run + "/config.textproto", run + "/elsewhere.textproto");
  const ProcessResult gone = Jevons({"replay", run, "--step", "2"});
  EXPECT_EQ(gone.exit_code, 3);
  EXPECT_EQ(gone.err,
            absl::StrCat("error: --step 2: ", run, " has no checkpoint before it, and no config.textproto to begin with; ",
                         "name the folder of a run, or a step after its oldest checkpoint\n"));
  std::ofstream(run + "/config.textproto") << "model { layer: 4 }\n";
  const ProcessResult torn = Jevons({"replay", run, "--step", "2"});
  EXPECT_EQ(torn.exit_code, 3);
  EXPECT_THAT(torn.err, HasSubstr("early/config.textproto: it is not as train wrote it: "));
  EXPECT_THAT(torn.err, HasSubstr("early/config.textproto:1:14: "));
  EXPECT_EQ(std::count(torn.err.begin(), torn.err.end(), '\n'), 1) << torn.err;
}

// A run that goes on with another rate and more steps: each step is replayed as the start that made it made it.
TEST_F(ReplayCli, EachStepHasTheConfigOfItsStart) {
  const std::vector<std::string> often = {"checkpoint.interval=2", "checkpoint.keep=100", "train.steps=4"};
  ASSERT_EQ(Train(1, 1, "changed", often).exit_code, 0);
  ASSERT_EQ(Train(1, 1, "changed",
                  {"checkpoint.interval=100", "checkpoint.keep=100", "train.steps=8", "optimizer.learning_rate.peak=1e-3"})
                .exit_code,
            0);
  for (const int step : {1, 4, 5, 8}) {
    const Json replayed = Replay("changed", step, 1, {});
    EXPECT_EQ(replayed["as_recorded"], true) << step;
    EXPECT_THAT(replayed["config"].get<std::string>(),
                HasSubstr(step <= 4 ? "/checkpoints/step-0000000" : "/changed/config.textproto"))
        << step;
  }
  const ProcessResult beyond = Jevons({"replay", folder_ / "changed", "--step", "9"});
  EXPECT_EQ(beyond.exit_code, 2);
  EXPECT_THAT(beyond.err, HasSubstr("error: --step 9: the run ends with step 8, says "));
}

TEST_F(ReplayCli, RefusesWhatItCannotReplay) {
  EXPECT_EQ(Jevons({"replay", folder_ / "none", "--step", "2"}).exit_code, 3);
  EXPECT_EQ(Jevons({"replay", folder_ / "none"}).exit_code, 2);
  EXPECT_EQ(Jevons({"replay", folder_ / "none", "--step", "0"}).exit_code, 2);
  EXPECT_EQ(Jevons({"replay", folder_ / "none", "--step", "2", "--config", "run.textproto"}).exit_code, 2);
  EXPECT_THAT(Jevons({"replay", "--help"}).out, StartsWith("Example:\n  jevons replay run --step 120\n"));
}

}  // namespace
}  // namespace jevons
