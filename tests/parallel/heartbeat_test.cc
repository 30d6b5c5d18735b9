// What a rank writes into the heartbeat file, its supervisor reads: in another process, by the name alone.
#include "parallel/comm/heartbeat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace jevons {
namespace {

using ::testing::HasSubstr;

void SetVariable(const std::string& places) { setenv(kHeartbeatVariable, places.c_str(), 1); }

// In a process of its own, which is rank 1 of 3, and ends with `code` when it has done `what`.
template <typename What>
void AsRank(const HeartbeatFile& file, int code, What what) {
  const pid_t child = fork();
  if (child == 0) {
    SetVariable("other-host:/proc/1/fd/3," + file.place());
    if (!OpenHeartbeat(1, 3).ok() || !HeartbeatIsOpen()) _exit(99);
    what();
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), code);
}

TEST(Heartbeat, IsReadAsWritten) {
  auto file = HeartbeatFile::Create(8);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->ranks().empty());
  const int64_t before = MonotonicNanoseconds();
  AsRank(*file, 7, [] {
    HeartbeatSteps(40);
    HeartbeatStep(12);
    HeartbeatPhase(5);
    usleep(20'000);
    HeartbeatAction("10F123&12B110 and more");
    HeartbeatPhase(2);
    usleep(40'000);
    HeartbeatPoll();
  });
  ASSERT_EQ(file->ranks().size(), 3u);
  EXPECT_EQ(file->ranks()[0].pid, 0);
  const HeartbeatLine& line = file->ranks()[1];
  EXPECT_GT(line.pid, 0);
  EXPECT_EQ(line.steps, 40);
  EXPECT_EQ(line.step, 12);
  EXPECT_EQ(line.phase, 2);
  EXPECT_EQ(line.stage.load(), HeartbeatStage::kTraining);
  EXPECT_EQ(line.exit_code, -1);
  EXPECT_EQ(ActionOf(line), "10F123&12B110 an");
  EXPECT_GT(line.changed, before);
  EXPECT_GE(line.alive - line.changed, 40'000'000);
  EXPECT_GE(line.longest_silence[5], 0.02F);
  EXPECT_GE(line.longest_silence[2], 0.04F);
  EXPECT_EQ(line.longest_wait[2], 0) << "nothing has changed yet";
  EXPECT_EQ(line.longest_silence[4], 0) << "a phase that was not seen";

  // Its next process goes on with what has been longest.
  const float longest = line.longest_silence[5];
  file->Clear();
  EXPECT_TRUE(file->ranks().empty());
  AsRank(*file, 0, [] { HeartbeatExit(3); });
  EXPECT_EQ(line.step, -1);
  EXPECT_EQ(line.stage.load(), HeartbeatStage::kEnding);
  EXPECT_EQ(line.exit_code, 3);
  EXPECT_EQ(line.longest_silence[5], longest);
}

TEST(Heartbeat, AStallIsForgottenInTime) {
  auto file = HeartbeatFile::Create(8);
  ASSERT_TRUE(file.ok()) << file.status();
  AsRank(*file, 0, [] {
    HeartbeatStep(0);
    HeartbeatPhase(5);
    usleep(100'000);
    for (int i = 0; i < 10'000; ++i) HeartbeatPhase(5);
  });
  EXPECT_LT(file->ranks()[1].longest_silence[5], 0.1F);
  EXPECT_GT(file->ranks()[1].longest_silence[5], 0);
}

TEST(Heartbeat, RefusesWhatIsNoFileOfOneAndIsSilentOnAnotherHost) {
  auto file = HeartbeatFile::Create(2);
  ASSERT_TRUE(file.ok()) << file.status();
  SetVariable(file->place());
  const absl::Status small = OpenHeartbeat(1, 3);
  EXPECT_EQ(ExitCodeOf(small), ExitCode::kUsage);
  EXPECT_THAT(std::string(small.message()), HasSubstr("lines for 2 ranks, of 3"));
  const std::string host = file->place().substr(0, file->place().find(':') + 1);
  for (const char* bad : {"/dev/null", "/no/such/file", ""}) {
    SetVariable(host + bad);
    const absl::Status status = OpenHeartbeat(0, 1);
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("JEVONS_HEARTBEAT"));
  }
  setenv("JEVONS_HEARTBEAT", "another-host-than-this:/proc/1/fd/5", 1);
  EXPECT_TRUE(OpenHeartbeat(0, 1).ok());
  unsetenv("JEVONS_HEARTBEAT");
  EXPECT_TRUE(OpenHeartbeat(0, 1).ok());
  EXPECT_FALSE(HeartbeatIsOpen());
}

TEST(ProcessFacts, AreThoseOfTheKernel) {
  const ProcessFacts self = FactsOf(getpid());
  EXPECT_EQ(self.state, 'R');
  EXPECT_EQ(self.parent, getppid());
  EXPECT_GT(self.start, 0);
  const pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  kill(child, SIGSTOP);
  waitpid(child, nullptr, WUNTRACED);
  EXPECT_EQ(FactsOf(child).state, 'T');
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(FactsOf(child).state, 0);
}

}  // namespace
}  // namespace jevons
