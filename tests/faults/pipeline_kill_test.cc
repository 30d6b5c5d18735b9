// A stage's process that dies or stops in the middle of a schedule: the job ends by itself, says who waited where, leaves no process
// and no damage behind, and goes on in any other layout.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/train_cli.h"

namespace jevons {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

// Whether there is such a process, and it is no corpse that waits for its parent.
bool Runs(pid_t process) {
  std::ifstream file(absl::StrCat("/proc/", process, "/stat"));
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text[name_end + 2] != 'Z';
}

constexpr double kDeadline = 3;  // seconds: parallel.watchdog_seconds
constexpr int kBatch = 48, kSequence = 32;

// Four stages, and so many micro-batches that next to nothing of a step lies outside its schedule.
std::vector<std::string> Overrides(const std::string& schedule) {
  return {"parallel.pp=4",
          "parallel.schedule=" + schedule,
          absl::StrCat("parallel.watchdog_seconds=", kDeadline),
          "model.layers=4",
          absl::StrCat("data.sequence_length=", kSequence),
          absl::StrCat("train.batch_sequences=", kBatch),
          "checkpoint.interval=1",
          "train.eval_interval=0"};
}

// A launcher that does not look, as if the rank's node were gone with it.
const std::vector<std::string> kBlind = {"sh", "-c", "\"$@\"; code=$?; test $code = 137 && exec sleep 60; exit $code", "sh"};

struct Strike {
  std::string schedule;
  size_t victim;  // rank
  int signal_number;
  std::vector<std::string> starter;  // of each rank
};

class PipelineKill : public TrainCli {
 protected:
  // Of the last one that was recorded: so much later the next is in mid-schedule.
  static std::chrono::duration<double> HalfAStep(const std::string& output) {
    std::ifstream file(folder_ / output / "metrics.jsonl");
    double seconds = 0;
    for (std::string line; std::getline(file, line);) {
      const auto record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (record.contains("tokens_per_second")) seconds = kBatch * kSequence / record["tokens_per_second"].get<double>();
    }
    return std::chrono::duration<double>(seconds / 2);
  }

  static ProcessResult Run(const Strike& strike) {
    std::vector<std::string> command = Command(4, 1, strike.schedule, Overrides(strike.schedule));
    command.insert(std::find(command.begin(), command.end(), kJevons), strike.starter.begin(), strike.starter.end());
    Process process = StartLongRun(strike.schedule, 1, command);
    std::vector<pid_t> ranks = ChildrenOf(process.pid());
    std::sort(ranks.begin(), ranks.end());  // mpirun starts them in their order
    if (!strike.starter.empty())
      for (pid_t& rank : ranks) rank = ChildrenOf(rank).at(0);
    std::this_thread::sleep_for(HalfAStep(strike.schedule));
    kill(ranks.at(strike.victim), strike.signal_number);
    const auto begin = std::chrono::steady_clock::now();
    const ProcessResult result = process.Wait(kTimeout);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::duration<double>(kDeadline + 10)) << result.err;
    // The launcher may be gone some moments before its ranks.
    for (const pid_t rank : ranks) {
      for (int i = 0; i < 500 && Runs(rank); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      EXPECT_FALSE(Runs(rank)) << "process " << rank << " of " << ranks.size();
    }
    return result;
  }
};

TEST_F(PipelineKill, AStageThatStopsOrDiesEndsTheJobAndIsNamed) {
  const std::vector<Strike> strikes = {
      {"ZB_H1", 2, SIGSTOP, {}}, {"DUALPIPE", 3, SIGKILL, kBlind}, {"DUALPIPEV", 0, SIGKILL, {}}};
  int steps = 0;
  for (const Strike& strike : strikes) {
    SCOPED_TRACE(strike.schedule);
    const ProcessResult result = Run(strike);
    if (strike.signal_number == SIGKILL && strike.starter.empty()) {
      EXPECT_NE(result.exit_code, 0) << "mpirun's own";
    } else {
      EXPECT_EQ(result.exit_code, 5) << result.err;
      EXPECT_THAT(result.err,
                  ContainsRegex(absl::StrCat("lost peer: rank [0-3] of 4, .* waited [0-9.]+ s in [0-9]+[SR][FB][0-9]+ for rank ",
                                             strike.victim, ", which has not come to [0-9]+[SR][FB][0-9]+")));
    }
    ASSERT_EQ(Jevons({"inspect", folder_ / strike.schedule}).exit_code, 0);
    steps = std::max(steps, NewestStep(strike.schedule) + 1);
  }
  std::vector<std::string> overrides = Overrides("ONE_F_ONE_B");
  overrides.insert(overrides.end(), {"parallel.pp=1", absl::StrCat("train.steps=", steps)});
  ASSERT_EQ(Train(1, 1, "undisturbed", overrides).exit_code, 0);
  for (const Strike& strike : strikes) {
    const ProcessResult resumed = Train(2, 2, strike.schedule, overrides);
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.err, HasSubstr("resumed after step"));
    EXPECT_EQ(Hash(strike.schedule), Hash("undisturbed")) << strike.schedule;
  }
}

}  // namespace
}  // namespace jevons
