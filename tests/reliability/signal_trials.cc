// Signals to a job's ranks at random instants: its start, its steps, its saves; and a second one soon after the first.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/philox.h"
#include "tests/support/train_cli.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

constexpr uint64_t kSeed = 12;
constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGINT};

class Signals : public TrainCli {
 protected:
  // The step of the last whole line of the record.
  static int RecordedStep(const std::string& output) {
    std::ifstream file(folder_ / output / "metrics.jsonl");
    int step = 0;
    for (std::string line; std::getline(file, line);) std::sscanf(line.c_str(), "{\"step\":%d,", &step);
    return step;
  }
  // Returns how many ranks there were.
  static size_t Tell(pid_t launcher, int signal_number) {
    const std::vector<pid_t> ranks = ChildrenOf(launcher);
    for (const pid_t rank : ranks) kill(rank, signal_number);
    return ranks.size();
  }
};

TEST_F(Signals, AtRandomInstants) {
  const auto trials = static_cast<uint64_t>(Trials(12));
  const std::vector<std::string> command =
      Command(2, 2, "told", {"train.steps=100000000", "checkpoint.interval=3", "train.eval_interval=5"});
  // Until the first steps are made: instants are spread over twice that.
  const auto begin = std::chrono::steady_clock::now();
  {
    Process first = StartLongRun("told", 4, command);
    Tell(first.pid(), SIGTERM);
    ASSERT_EQ(first.Wait(kTimeout).exit_code, 75);
  }
  const auto spread = static_cast<uint64_t>(
      2 * std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count());
  int64_t lost = 0, saved = 0, early = 0;
  std::vector<double> seconds;
  for (uint64_t number = 0; number < trials; ++number) {
    const int before = NewestStep("told");
    auto process = Process::Start(command);
    ASSERT_TRUE(process.ok());
    std::this_thread::sleep_for(std::chrono::microseconds(RandomBits(kSeed, 0, number) % spread));
    const auto told = std::chrono::steady_clock::now();
    const size_t ranks = Tell(process->pid(), kSignals[RandomBits(kSeed, 1, number) % 3]);
    if (ranks > 0 && number % 2 == 1) {
      std::this_thread::sleep_for(std::chrono::microseconds(RandomBits(kSeed, 2, number) % 50'000));
      Tell(process->pid(), kSignals[RandomBits(kSeed, 3, number) % 3]);
    }
    // Where there was no rank yet, nobody will end it.
    const ProcessResult result = process->Wait(ranks == 0 ? 0.1 : kTimeout);
    const int after = NewestStep("told"), recorded = RecordedStep("told");
    if (result.exit_code == 75 && after >= std::max(before, recorded)) {
      ++saved;
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - told).count());
    } else if (after >= before && (ranks == 0 || (!result.timed_out && result.exit_code != 0 && after >= recorded))) {
      ++early;  // nobody listened yet: nothing was done that could be lost
    } else {
      ++lost;
      ADD_FAILURE() << "trial " << number << ": exit code " << result.exit_code << ", checkpoints " << before << " and " << after
                    << ", recorded " << recorded << "\n"
                    << result.err;
    }
  }
  EXPECT_GT(saved, static_cast<int64_t>(trials) / 4) << "hardly a signal met a run";
  const int end = NewestStep("told") + 2;
  ASSERT_EQ(Train(1, 1, "told", {absl::StrCat("train.steps=", end), "train.eval_interval=5"}).exit_code, 0);
  ASSERT_EQ(Train(1, 1, "calm", {absl::StrCat("train.steps=", end), "train.eval_interval=5"}).exit_code, 0);
  EXPECT_EQ(Hash("told"), Hash("calm"));
  ReportTrials("signals", static_cast<int64_t>(trials), absl::StrFormat("%d:0-%d", kSeed, trials - 1),
               absl::StrFormat("%d saved and 75, after %.2f s (p50), %.2f s (worst); %d before ranks listened", saved,
                               Percentile(seconds, 0.5), Percentile(seconds, 1), early),
               absl::StrFormat("%.2f", Percentile(seconds, 1)), lost);
}

}  // namespace
}  // namespace jevons
