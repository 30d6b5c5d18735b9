// A supervised run that loses ranks and its launcher at random instants, for as many failures as a day has, one after the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/philox.h"
#include "tests/support/supervised_run.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

constexpr uint64_t kSeed = 11;
constexpr double kHangSeconds = 4;  // what supervise takes unless told otherwise

double Now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

class Soak : public Supervise {
 protected:
  struct Strike {
    double time = 0, noticed = 0, next_step = 0;  // seconds since 1970
    bool stop = false;                            // else killed
    bool blamed = false;                          // the journal names the victim
  };

  // When the first step after `time` was recorded.
  static std::optional<double> StepAfter(const std::string& output, double time) {
    std::ifstream file(folder_ / output / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (record.is_object() && record.contains("loss/main") && record["time"] > time) return record["time"].get<double>();
    }
    return std::nullopt;
  }

  // Strikes a random rank at a random instant of the run's next steps, and waits until it goes on. A run that dies again and again without
  // progress is started later each time: so it makes a step that is new before.
  static std::optional<Strike> StrikeOnce(const std::string& output, uint64_t number, bool stop, int64_t& furthest) {
    const Json status = WaitForStep(output, furthest + 1);
    const Json& ranks = status["ranks"];
    if (ranks.size() != kRanks) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::microseconds(RandomBits(kSeed, 0, number) % 500'000));
    const size_t victim = RandomBits(kSeed, 1, number) % kRanks;
    const pid_t pid = ranks[victim]["pid"];
    Strike strike{.stop = stop};
    strike.time = Now();
    if (kill(pid, strike.stop ? SIGSTOP : SIGKILL) != 0) return std::nullopt;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < deadline) {
      for (const Json& event : Events(output, strike.stop ? "hung" : "died")) {
        if (event["time"] < strike.time) continue;
        strike.noticed = event["time"];
        furthest = std::max(furthest, event.value("step", int64_t{0}));
        strike.blamed = event.value("pid", 0) == pid && event.value("rank", size_t{99}) == victim;
      }
      if (const auto step = strike.noticed > 0 ? StepAfter(output, strike.noticed) : std::nullopt) {
        strike.next_step = *step;
        return strike;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return std::nullopt;
  }
};

TEST_F(Soak, RanksDieAndHangAtRandomInstants) {
  const auto trials = static_cast<uint64_t>(Trials(12));
  const std::vector<std::string> options = {"--restarts", absl::StrCat(2 * trials), "--hang-seconds", absl::StrCat(kHangSeconds)};
  auto supervisor = Process::Start(Supervised("soak", options, {"train.steps=100000000"}));
  ASSERT_TRUE(supervisor.ok());
  std::vector<double> dead, hung, recovery;
  int64_t lost = 0, blamed = 0, furthest = 0;
  for (uint64_t number = 0; number < trials; ++number) {
    const auto strike = StrikeOnce("soak", number, number % 4 == 3, furthest);
    if (!strike) {
      ++lost;
      continue;
    }
    (strike->stop ? hung : dead).push_back(strike->noticed - strike->time);
    if (!strike->stop) recovery.push_back(strike->next_step - strike->time);
    blamed += strike->blamed;
  }
  kill(supervisor->pid(), SIGTERM);
  EXPECT_EQ(supervisor->Wait(kTimeout).exit_code, 75);
  const Json ettr = Status("soak")["ettr"];
  EXPECT_EQ(ProcessesOf("soak"), 0);
  ASSERT_EQ(Train(1, 1, "calm", {absl::StrCat("train.steps=", NewestStep("soak"))}).exit_code, 0);
  const bool same = Hash("soak") == Hash("calm");
  EXPECT_TRUE(same);
  const std::string seeds = absl::StrFormat("%d:0-%d", kSeed, trials - 1);
  ReportTrials("blame", static_cast<int64_t>(trials), seeds, absl::StrFormat("%d named rightly", blamed),
               absl::StrFormat("%.1f", 100.0 * static_cast<double>(blamed) / static_cast<double>(trials)), lost);
  ReportTrials("dead", static_cast<int64_t>(dead.size()), seeds,
               absl::StrFormat("p50 %.2f s, worst %.2f s", Percentile(dead, 0.5), Percentile(dead, 1)),
               absl::StrFormat("%.2f", Percentile(dead, 0.99)), lost);
  ReportTrials("hung", static_cast<int64_t>(hung.size()), seeds,
               absl::StrFormat("p50 %.2f s, worst %.2f s", Percentile(hung, 0.5), Percentile(hung, 1)),
               absl::StrFormat("%.2f", Percentile(hung, 0.99)), lost);
  ReportTrials("recovery", static_cast<int64_t>(recovery.size()), seeds,
               absl::StrFormat("p50 %.2f s, worst %.2f s", Percentile(recovery, 0.5), Percentile(recovery, 1)),
               absl::StrFormat("%.2f", Percentile(recovery, 0.95)), lost);
  // What a failure takes, whatever lies between two of them.
  const double wall = ettr["wall_seconds"], kept = ettr["productive_seconds"], each = (wall - kept) / static_cast<double>(trials);
  constexpr double kBetween = 600;
  ReportTrials("soak", static_cast<int64_t>(trials), seeds,
               absl::StrFormat("%s; ETTR %.0f%% at a failure every %.1f s, which takes %.2f s",
                               same ? "the bits of a calm run" : "OTHER BITS", 100 * kept / wall,
                               wall / static_cast<double>(trials), each),
               absl::StrFormat("%.2f", 100 * (1 - each / kBetween)), lost + !same);
}

// The same with a copy of every step in memory, and nothing on disk.
TEST_F(Soak, RanksDieAndTheirStepsAreInMemory) {
  const auto trials = static_cast<uint64_t>(Trials(6));
  std::vector<std::string> command =
      Supervised("memory", {"--restarts", absl::StrCat(2 * trials)}, {"train.steps=100000000", "checkpoint.memory_interval=1"});
  command.insert(command.end(), {"--set", "checkpoint.interval=100000000"});
  auto supervisor = Process::Start(command);
  ASSERT_TRUE(supervisor.ok());
  std::vector<double> recovery, steps;
  int64_t lost = 0, furthest = 0;
  for (uint64_t number = 0; number < trials; ++number) {
    if (const auto strike = StrikeOnce("memory", 1000 + number, /*stop=*/false, furthest)) {
      recovery.push_back(strike->next_step - strike->time);
    } else {
      ++lost;
    }
  }
  kill(supervisor->pid(), SIGTERM);
  EXPECT_EQ(supervisor->Wait(kTimeout).exit_code, 75);
  ASSERT_EQ(Train(1, 1, "calm", {absl::StrCat("train.steps=", NewestStep("memory"))}).exit_code, 0);
  const bool same = Hash("memory") == Hash("calm");
  EXPECT_TRUE(same);
  const std::vector<Json> died = Events("memory", "died"), training = Events("memory", "training");
  for (size_t i = 0; i < died.size() && i + 1 < training.size(); ++i)
    steps.push_back(static_cast<double>(std::max(int64_t{0}, int64_t{died[i]["step"]} - int64_t{training[i + 1]["step"]})));
  const std::string seeds = absl::StrFormat("%d:1000-%d", kSeed, 1000 + trials - 1);
  ReportTrials("memory_recovery", static_cast<int64_t>(recovery.size()), seeds,
               absl::StrFormat("p50 %.2f s, worst %.2f s%s", Percentile(recovery, 0.5), Percentile(recovery, 1),
                               same ? "; the bits of a calm run" : "; OTHER BITS"),
               absl::StrFormat("%.2f", Percentile(recovery, 0.95)), lost + !same);
  ReportTrials("memory_steps", static_cast<int64_t>(steps.size()), seeds, absl::StrFormat("p50 %.0f", Percentile(steps, 0.5)),
               absl::StrFormat("%.0f", Percentile(steps, 1)));
}

}  // namespace
}  // namespace jevons
