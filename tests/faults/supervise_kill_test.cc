// Nobody looks after a supervised run: ranks are killed and stopped at random instants, and it ends as if nothing had happened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/philox.h"
#include "launch/supervise/host.h"
#include "tests/support/process_memory.h"
#include "tests/support/supervised_run.h"
#include "trainer/checkpoint/reader.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

TEST_F(Supervise, KilledAndStoppedRanksChangeNothing) {
  constexpr int kSteps = 300, kStrikes = 4;  // some seconds: the run is not to end before the last strike
  ASSERT_EQ(Train(1, 1, "undisturbed", {absl::StrCat("train.steps=", kSteps)}).exit_code, 0);
  auto supervisor = Process::Start(
      Supervised("disturbed", {"--restarts", "20", "--hang-seconds", "1"}, {absl::StrCat("train.steps=", kSteps)}));
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
    const auto of_victim = [&](const Json& event) {
      return event.value("pid", 0) == pid && event.value("rank", size_t{99}) == victim;
    };
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

// A rank that dies takes no step with it that is in memory: nothing is on disk before the end.
TEST_F(Supervise, AKilledRankLosesNoMoreThanWhatIsNotYetInMemory) {
  constexpr int kSteps = 200, kInterval = 2;
  const std::vector<std::string> overrides = {absl::StrCat("train.steps=", kSteps), "checkpoint.interval=100000",
                                              absl::StrCat("checkpoint.memory_interval=", kInterval)};
  ASSERT_EQ(Train(1, 1, "unkilled", {absl::StrCat("train.steps=", kSteps)}).exit_code, 0);
  std::vector<std::string> command = Supervised("in_memory", {}, {});
  for (const std::string& override_text : overrides) command.insert(command.end(), {"--set", override_text});
  auto supervisor = Process::Start(command);
  ASSERT_TRUE(supervisor.ok());
  for (const int64_t step : {20, 60}) {
    const Json status = WaitForStep("in_memory", step);
    ASSERT_EQ(status["ranks"].size(), size_t{kRanks});
    kill(pid_t{status["ranks"][1]["pid"]}, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  const ProcessResult result = supervisor->Wait(kTimeout);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(Hash("in_memory"), Hash("unkilled"));
  const std::vector<Json> died = Events("in_memory", "died"), saved = Events("in_memory", "from_memory"),
                          training = Events("in_memory", "training");
  ASSERT_EQ(died.size(), 2u);
  ASSERT_EQ(saved.size(), 2u) << result.err;
  ASSERT_EQ(training.size(), 3u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(saved[i]["step"], training[i + 1]["step"]);
    EXPECT_GE(int64_t{saved[i]["step"]}, int64_t{died[i]["step"]} - 2 * kInterval)
        << "one that was being hashed, and the one before";
  }
  EXPECT_FALSE(fs::exists(MemoryFolderOf(folder_ / "in_memory")));
}

TEST_F(Supervise, WhatASupervisorThatWasKilledHasLeftIsForTheNext) {
  const std::vector<std::string> command = Supervised("left", {}, {"train.steps=100000", "checkpoint.memory_interval=1"});
  std::vector<std::string> rare = command;
  rare.insert(rare.end(), {"--set", "checkpoint.interval=100000"});
  auto supervisor = Process::Start(rare);
  ASSERT_TRUE(supervisor.ok());
  const Json status = WaitForStep("left", 20);
  const int64_t step = status["ranks"][0]["step"];
  kill(supervisor->pid(), SIGSTOP);
  for (const Json& rank : status["ranks"]) kill(pid_t{rank["pid"]}, SIGKILL);
  kill(supervisor->pid(), SIGKILL);
  supervisor->Wait(kTimeout);
  EXPECT_EQ(ProcessesOf("left"), 0);
  EXPECT_EQ(NewestStep("left"), 0);
  rare.insert(rare.end(), {"--set", absl::StrCat("train.steps=", step)});
  const ProcessResult next = RunProcess(rare, kTimeout);
  EXPECT_EQ(next.exit_code, 0) << next.err;
  EXPECT_THAT(next.err, HasSubstr("saved from memory"));
  ASSERT_EQ(Events("left", "from_memory").size(), 1u);
  EXPECT_GE(int64_t{Events("left", "from_memory")[0]["step"]}, step - 2);
}

// As srun does of tasks that it could not start: ends well without a rank. And ranks that nobody sees have ended well where the run has.
TEST_F(Supervise, ALauncherThatStartsNobodyHasNotFinished) {
  const std::string launcher = folder_ / "launcher";
  std::ofstream(launcher) << "#!/bin/sh\n[ -e $0.asked ] || { touch $0.asked; exit 0; }\nunset " << kHeartbeatVariable
                          << "\nexec \"$@\"\n";
  fs::permissions(launcher, fs::perms::owner_all);
  std::vector<std::string> command = Supervised("unasked", {}, {"train.steps=4"});
  std::string& how = *(std::find(command.begin(), command.end(), "--launcher") + 1);
  how = launcher + " " + how;
  const ProcessResult result = RunProcess(command, kTimeout);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("the launcher's exit code is 0, but no rank has finished the run"));
  EXPECT_EQ(Events("unasked", "start").size(), 2u);
  EXPECT_EQ(NewestStep("unasked"), 4);
}

TEST_F(Supervise, WithoutASupervisorARunSaysThatNobodyKeepsItsMemory) {
  const ProcessResult alone = Train(2, 2, "alone", {"checkpoint.memory_interval=1", "train.steps=2"});
  EXPECT_EQ(alone.exit_code, 0) << alone.err;
  EXPECT_THAT(alone.err, HasSubstr("jevons supervise"));
  EXPECT_FALSE(fs::exists(MemoryFolderOf(folder_ / "alone")));
}

// A bit turned in the memory of one rank of three, from outside: the ranks find it before it counts, the rank is named, and the run goes on.
TEST_F(Supervise, AMachineAtFaultIsARestart) {
  constexpr int kThree = 3;
  // A token that never comes, and no decay: its row of the embedding stays as it is, and can be found.
  const std::string no_decay = "optimizer.weight_decay=0";
  auto supervisor =
      Process::Start(Supervised("unsound", {}, {no_decay, "train.verify_replicas=1", "train.steps=100000"}, kThree, 1));
  ASSERT_TRUE(supervisor.ok());
  const Json status = WaitForStep("unsound", 6, kThree);
  ASSERT_EQ(status["ranks"].size(), size_t{kThree});

  const std::string checkpoints = folder_ / "unsound/checkpoints";
  FileSystem& files = PosixFileSystem();
  const int64_t newest = CommittedSteps(files, checkpoints).value().back();
  auto reader = CheckpointReader::Open(files, CheckpointPath(files, checkpoints, newest).value());
  ASSERT_TRUE(reader.ok()) << reader.status();
  const std::string name = "weight/model.embed_tokens.weight";
  const auto embedding = std::find_if(reader->tensors().begin(), reader->tensors().end(),
                                      [&](const TensorInfo& tensor) { return tensor.name == name; });
  ASSERT_NE(embedding, reader->tensors().end());
  constexpr int64_t kNever =
      150;  // of the tokens that are one byte, in the order of data/tokenizer/byte_alphabet.h, one beyond ASCII
  std::vector<float> row(static_cast<size_t>(embedding->shape[1]));
  ASSERT_TRUE(reader
                  ->Read(name, DType::kF32, embedding->shape, {kNever * embedding->shape[1], (kNever + 1) * embedding->shape[1]},
                         row.data())
                  .ok());

  // Not of a rank that has the row's master too: what comes of that is the same on all ranks.
  std::vector<size_t> copies;
  for (const Json& rank : status["ranks"])
    copies.push_back(FindInProcess(pid_t{rank["pid"]}, std::as_bytes(std::span(row))).size());
  const auto victim = static_cast<size_t>(std::min_element(copies.begin(), copies.end()) - copies.begin());
  const pid_t pid = status["ranks"][victim]["pid"];
  ASSERT_GE(copies[victim], 1u);
  // One that comes between the comparison and the new weights is overwritten, and no harm.
  for (int i = 0; i < 500 && Events("unsound", "exit").empty(); ++i) {
    for (const uintptr_t address : FindInProcess(pid, std::as_bytes(std::span(row)))) TurnBitOfProcess(pid, address);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ASSERT_EQ(Events("unsound", "exit").size(), 1u);
  WaitForStep("unsound", 0, kThree);
  kill(supervisor->pid(), SIGTERM);
  const ProcessResult result = supervisor->Wait(kTimeout);
  EXPECT_EQ(result.exit_code, 75) << result.err;
  EXPECT_THAT(result.err, HasSubstr(absl::StrCat("model.embed_tokens.weight: rank ", victim, " (")));
  ASSERT_EQ(Train(1, 1, "sound", {no_decay, absl::StrCat("train.steps=", NewestStep("unsound"))}).exit_code, 0);
  EXPECT_EQ(Hash("unsound"), Hash("sound"));
  const std::vector<Json> ends = Events("unsound", "exit");
  ASSERT_EQ(ends.size(), 2u) << result.err;
  EXPECT_EQ(ends[0]["exit"], 5);
  EXPECT_EQ(ends[0].value("rank", size_t{99}), victim) << ends[0];
  EXPECT_THAT(ends[0].value("detail", ""), HasSubstr("machine at fault"));
  EXPECT_EQ(Events("unsound", "start").size(), 2u);
}

TEST_F(Supervise, TrainMayFollowWithoutDashes) {
  std::vector<std::string> command = Supervised("plain", {}, {"train.steps=2"});
  command.erase(std::find(command.begin(), command.end(), "--"));
  const ProcessResult result = RunProcess(command, kTimeout);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const ProcessResult nothing = Jevons({"supervise", "--ranks", "2"});
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_THAT(nothing.err, HasSubstr("what to supervise is not given"));
  const ProcessResult wrong = Jevons({"supervise", "--rank", "2", "train", "--config", "x"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("did you mean --ranks"));
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

  const std::string newest =
      absl::StrCat((folder_ / "stopped/checkpoints/step-").string(), std::string(8 - std::to_string(step).size(), '0'), step);
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
           {{}, "write `train` and its options"},
           {{"--", "eval"}, "write `train` and its options"},
           {{"--", "train", "--config", "x"}, "--output"},
           {{"--ranks", "0", "--", "train", "--output", "x"}, "--ranks = 0"},
           {{"--restarts", "-1", "--", "train", "--output", "x"}, "--restarts = -1"},
           {{"--hang-seconds", "0", "--", "train", "--output", "x"}, "--hang-seconds = 0"},
           {{"--ranks", "2", "--launcher", "mpirun", "--", "train", "--output", "x"}, "give one of them"},
           {{"--launcher", "no_such_launcher", "--", "train", "--output", folder_ / "unstarted"},
            "no_such_launcher: cannot start"}}) {
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
