// Nobody looks after a supervised run: ranks are killed and stopped at random instants, and it ends as if nothing had happened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/philox.h"
#include "tests/support/train_cli.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr int kRanks = 2;

class Supervise : public TrainCli {
 protected:
  static std::vector<std::string> Supervised(const std::string& output, const std::vector<std::string>& options, std::vector<std::string> overrides) {
    overrides.push_back("checkpoint.interval=2");
    const std::vector<std::string> train = Command(kRanks, kRanks, output, overrides);
    const auto program = std::find(train.begin(), train.end(), kJevons);
    std::vector<std::string> command = {kJevons, "supervise", "--launcher", absl::StrJoin(train.begin(), program, " ")};
    command.insert(command.end(), options.begin(), options.end());
    command.push_back("--");
    command.insert(command.end(), program + 1, train.end());
    return command;
  }

  static Json Status(const std::string& output) {
    const Json status = Json::parse(Jevons({"status", folder_ / output, "--json"}).out, nullptr, /*allow_exceptions=*/false);
    return status.is_object() ? status : Json{{"step", nullptr}, {"ranks", Json::array()}};
  }
  // Once all ranks train, and have made `step` steps.
  static Json WaitForStep(const std::string& output, int64_t step) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    Json status = Status(output);
    const auto trains = [&](const Json& rank) { return rank["alive"] && rank["step"] >= step; };
    while (std::chrono::steady_clock::now() < deadline &&
           !(status["ranks"].size() == kRanks && std::all_of(status["ranks"].begin(), status["ranks"].end(), trains))) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      status = Status(output);
    }
    EXPECT_EQ(status["ranks"].size(), size_t{kRanks}) << status;
    return status;
  }

  static std::vector<Json> Events(const std::string& output, const std::string& name) {
    std::ifstream file(folder_ / output / "supervise.jsonl");
    std::vector<Json> events;
    for (std::string line; std::getline(file, line);)
      if (Json event = Json::parse(line); event["event"] == name) events.push_back(std::move(event));
    return events;
  }

  // Processes that train into `output`. Those that have just been killed get a moment.
  static int ProcessesOf(const std::string& output) {
    int count = 0;
    for (int i = 0; i < 200; ++i) {
      count = 0;
      for (const auto& entry : fs::directory_iterator("/proc")) {
        std::ifstream file(entry.path() / "cmdline");
        const std::string command{std::istreambuf_iterator<char>(file), {}};
        count += absl::StrContains(command, (folder_ / output).string() + std::string(1, '\0'));
      }
      if (count == 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return count;
  }
};

TEST_F(Supervise, KilledAndStoppedRanksChangeNothing) {
  constexpr int kSteps = 300, kStrikes = 4;  // some seconds: the run is not to end before the last strike
  ASSERT_EQ(Train(1, 1, "undisturbed", {absl::StrCat("train.steps=", kSteps)}).exit_code, 0);
  auto supervisor = Process::Start(Supervised("disturbed", {"--restarts", "20", "--hang-seconds", "1"}, {absl::StrCat("train.steps=", kSteps)}));
  ASSERT_TRUE(supervisor.ok());
  for (uint64_t strike = 0; strike < kStrikes; ++strike) {
    const Json status = WaitForStep("disturbed", 2 + 5 * static_cast<int64_t>(strike));
    ASSERT_EQ(status["ranks"].size(), size_t{kRanks});
    std::this_thread::sleep_for(std::chrono::microseconds(RandomBits(1, 0, strike) % 100'000));
    const size_t victim = RandomBits(1, 1, strike) % kRanks;
    const pid_t pid = status["ranks"][victim]["pid"];
    const bool stop = strike == 1;
    kill(pid, stop ? SIGSTOP : SIGKILL);
    const std::string event = stop ? "hung" : "died";
    const auto of_victim = [&](const Json& event) { return event.value("pid", 0) == pid && event.value("rank", size_t{99}) == victim; };
    std::vector<Json> events;
    for (int i = 0; i < 3000 && std::none_of(events.begin(), events.end(), of_victim); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      events = Events("disturbed", event);
    }
    EXPECT_TRUE(std::any_of(events.begin(), events.end(), of_victim)) << event << ", rank " << victim << ", process " << pid;
    for (const Json& hung : events) EXPECT_EQ(hung.contains("detail"), stop);
  }
  const ProcessResult result = supervisor->Wait(kTimeout);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("ETTR"));
  EXPECT_EQ(Hash("disturbed"), Hash("undisturbed"));
  EXPECT_EQ(ProcessesOf("disturbed"), 0);
  const Json status = Status("disturbed");
  EXPECT_FALSE(status["running"]);
  EXPECT_EQ(status["step"], kSteps);
  EXPECT_GE(status["ettr"]["restarts"], kStrikes);
}

TEST_F(Supervise, ASignalStopsWithACheckpointAndADamagedOneIsSetAside) {
  auto supervisor = Process::Start(Supervised("stopped", {}, {"train.steps=100000"}));
  ASSERT_TRUE(supervisor.ok());
  WaitForStep("stopped", 6);
  kill(supervisor->pid(), SIGTERM);
  const ProcessResult stopped = supervisor->Wait(kTimeout);
  EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
  EXPECT_EQ(ProcessesOf("stopped"), 0);
  EXPECT_EQ(Events("stopped", "start").size(), 1u);
  const int step = NewestStep("stopped");
  EXPECT_EQ(Events("stopped", "exit").at(0)["step"], step - 1);

  const std::string newest = absl::StrCat((folder_ / "stopped/checkpoints/step-").string(), std::string(8 - std::to_string(step).size(), '0'), step);
  for (const auto& entry : fs::directory_iterator(newest)) fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
  const std::string steps = absl::StrCat("train.steps=", step + 2);
  const ProcessResult resumed = RunProcess(Supervised("stopped", {}, {steps}), kTimeout);
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("newest good checkpoint"));
  EXPECT_EQ(Events("stopped", "set_aside").size(), 1u);
  EXPECT_TRUE(fs::exists(newest + ".damaged"));
  ASSERT_EQ(Train(1, 1, "never_stopped", {steps}).exit_code, 0);
  EXPECT_EQ(Hash("stopped"), Hash("never_stopped"));
}

TEST_F(Supervise, WhatAStartWouldRefuseAgainIsNotStartedAgain) {
  const ProcessResult refused = RunProcess(Supervised("refused", {}, {"train.stepz=3"}), kTimeout);
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("not started again"));
  EXPECT_EQ(Events("refused", "start").size(), 1u);
}

TEST_F(Supervise, ItsOwnMistakesAreNamed) {
  for (const auto& [arguments, message] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "-- train"},
           {{"--", "eval"}, "-- train"},
           {{"--", "train", "--config", "x"}, "--output"},
           {{"--ranks", "0", "--", "train", "--output", "x"}, "--ranks = 0"},
           {{"--restarts", "-1", "--", "train", "--output", "x"}, "--restarts = -1"},
           {{"--hang-seconds", "0", "--", "train", "--output", "x"}, "--hang-seconds = 0"},
           {{"--ranks", "2", "--launcher", "mpirun", "--", "train", "--output", "x"}, "give one of them"},
           {{"--launcher", "no_such_launcher", "--", "train", "--output", folder_ / "unstarted"}, "no_such_launcher: cannot start"}}) {
    std::vector<std::string> command = {"supervise"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const ProcessResult result = Jevons(command);
    EXPECT_EQ(result.exit_code, 2) << absl::StrJoin(command, " ");
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  EXPECT_EQ(Jevons({"status", folder_ / "no_such_run"}).exit_code, 3);
}

TEST_F(Supervise, TheJobDoesNotOutliveItsSupervisor) {
  auto supervisor = Process::Start(Supervised("orphaned", {}, {"train.steps=100000"}));
  ASSERT_TRUE(supervisor.ok());
  WaitForStep("orphaned", 0);
  const ProcessResult other = RunProcess(Supervised("orphaned", {}, {}), kTimeout);
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("another `jevons supervise`"));
  kill(supervisor->pid(), SIGKILL);
  supervisor->Wait(kTimeout);
  EXPECT_EQ(ProcessesOf("orphaned"), 0);
}

}  // namespace
}  // namespace jevons
