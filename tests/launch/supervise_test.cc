// The rules of the supervisor, without a process: whom it takes to hang, what it starts again, what a restart has lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/base/philox.h"
#include "launch/supervise/hang_watch.h"
#include "launch/supervise/journal.h"
#include "launch/supervise/restart_policy.h"
#include "tests/support/temp_folder.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

constexpr double kFloor = 4, kLook = 0.5;  // seconds

RankState Training(int rank, Phase phase, double longest) {
  return {.rank = rank,
          .pid = 100 + rank,
          .changed = 1,
          .alive = 1,
          .step = 7,
          .stage = HeartbeatStage::kTraining,
          .phase = phase,
          .action = "",
          .longest_silence = longest,
          .longest_wait = longest};
}

TEST(HangDeadline, IsTenTimesWhatThePhaseTookAndNotLessThanItsFloor) {
  EXPECT_EQ(HangDeadline(Training(0, Phase::kForward, 0.1), 0.1, kFloor), kFloor);
  EXPECT_EQ(HangDeadline(Training(0, Phase::kForward, 2), 2, kFloor), 20);
  EXPECT_EQ(HangDeadline(Training(0, Phase::kForward, 0), 0, kFloor), HangWatch::kStarting) << "not seen yet";
  EXPECT_EQ(HangDeadline(Training(0, Phase::kValidation, 0.1), 0.1, kFloor), HangWatch::kValidating);
  EXPECT_EQ(HangDeadline(Training(0, Phase::kCheckpoint, 0.1), 0.1, kFloor), HangWatch::kSaving);
  for (const HeartbeatStage stage : {HeartbeatStage::kStarting, HeartbeatStage::kEnding}) {
    RankState state = Training(0, Phase::kForward, 0.1);
    state.stage = stage;
    EXPECT_EQ(HangDeadline(state, 0.1, kFloor), HangWatch::kStarting);
  }
}

class HangWatchTest : public testing::Test {
 protected:
  // Looks until somebody hangs, or `seconds` have passed. `step` changes the ranks before each look.
  template <typename Step>
  std::optional<Hang> LookFor(double seconds, Step step) {
    for (passed_ = 0; passed_ < seconds; passed_ += kLook) {
      step();
      if (auto hang = watch_.Look(ranks_, kLook)) return hang;
    }
    return std::nullopt;
  }

  HangWatch watch_{kFloor};
  std::vector<RankState> ranks_ = {Training(0, Phase::kDispatch, 0.1), Training(1, Phase::kForward, 0.1),
                                   Training(2, Phase::kDispatch, 0.1)};
  double passed_ = 0;
  void Poll(int rank) { ranks_[static_cast<size_t>(rank)].alive += 1; }
  void Change(int rank) { ranks_[static_cast<size_t>(rank)].changed = ++ranks_[static_cast<size_t>(rank)].alive; }
};

TEST_F(HangWatchTest, NamesTheOneThatGivesNoSignOfLifeNotThoseThatWaitForIt) {
  const auto hang = LookFor(60, [&] {
    Poll(0);
    Poll(2);
  });
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->state.rank, 1);
  EXPECT_THAT(hang->what, HasSubstr("no sign of life"));
  EXPECT_GT(hang->silent, kFloor);
  EXPECT_LE(passed_, kFloor + 1);
}

TEST_F(HangWatchTest, ARankThatStopsWhileItWaitsIsTheOne) {
  int looks = 0;
  const auto hang = LookFor(60, [&] {
    Poll(0);
    Poll(1);
    if (++looks < 3) Poll(2);
  });
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->state.rank, 2);
}

TEST_F(HangWatchTest, SlowStepsAreNoHang) {
  // Ten times as slow as ever, and waited for by the others.
  for (RankState& state : ranks_) state.longest_silence = state.longest_wait = 1;
  int looks = 0;
  EXPECT_FALSE(LookFor(1000, [&] {
    Poll(0);
    Poll(2);
    if (++looks % 19 == 0)
      for (int rank = 0; rank < 3; ++rank) Change(rank);
  }));
  EXPECT_TRUE(LookFor(20, [] {}));
}

// A million steps, each rank's phase as slow as it likes up to ten times what is usual: nobody is accused. Ranks wait for the slowest.
TEST_F(HangWatchTest, AMillionStepsOfRandomSlownessRaiseNoAlarm) {
  constexpr int kLooks = 1'000'000;
  constexpr double kUsual = 0.5;  // seconds; ten times that is above the floor
  for (RankState& state : ranks_) state.longest_silence = state.longest_wait = kUsual;
  double left = 0;  // of this step
  size_t slowest = 0;
  for (int look = 0; look < kLooks; ++look) {
    if (left <= 0) {
      for (int rank = 0; rank < 3; ++rank) Change(rank);
      const uint64_t random = RandomBits(7, 0, static_cast<uint64_t>(look));
      slowest = random % 3;
      left = kUsual * (1 + static_cast<double>(random / 3 % 1000) * 9e-3);
    }
    left -= kLook;
    for (int rank = 0; rank < 3; ++rank)
      if (static_cast<size_t>(rank) != slowest) Poll(rank);
    const auto hang = watch_.Look(ranks_, kLook);
    ASSERT_FALSE(hang) << "look " << look << ": rank " << hang->state.rank << " " << hang->what << " for " << hang->silent
                       << " s";
  }
  // And the first real one is found.
  EXPECT_TRUE(LookFor(HangWatch::kTimes * kUsual + 2 * kLook, [] {}));
}

TEST_F(HangWatchTest, AllThatWaitForEachOtherHang) {
  const auto hang = LookFor(60, [&] {
    for (int rank = 0; rank < 3; ++rank) Poll(rank);
  });
  ASSERT_TRUE(hang);
  EXPECT_THAT(hang->what, HasSubstr("as all ranks do"));
  EXPECT_LE(passed_, kFloor + 1);
}

TEST_F(HangWatchTest, ASlowSaveIsNoHangButAStoppedProcessIs) {
  for (RankState& state : ranks_) state.phase = Phase::kCheckpoint;
  const auto save = [&] {
    Poll(0);
    Poll(2);
  };
  EXPECT_FALSE(LookFor(HangWatch::kSaving / 2, save));
  ranks_[1].stopped = true;
  const auto hang = LookFor(10, save);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->state.rank, 1);
  EXPECT_THAT(hang->what, HasSubstr("stopped"));
}

TEST_F(HangWatchTest, NobodyHangsWhereTheMachineWasStopped) {
  watch_.Look(ranks_, kLook);
  EXPECT_FALSE(watch_.Look(ranks_, 1000));
}

TEST(RestartPolicy, OnlyWhatMayGoBetterIsStartedAgain) {
  for (const int code : {0, 75, 2, 3, 4}) {
    const RestartDecision decision = RestartPolicy(std::nullopt).Next(code, 10, 8);
    EXPECT_FALSE(decision.restart) << code;
    EXPECT_EQ(decision.reason.empty(), code == 0 || code == 75) << code;
  }
  for (const int code : {1, 5, 128 + 9, 139}) EXPECT_TRUE(RestartPolicy(std::nullopt).Next(code, 10, 8).restart) << code;
}

TEST(RestartPolicy, WaitsLongerUntilThereIsProgressAndGivesUpWithoutIt) {
  RestartPolicy policy(std::nullopt);
  std::vector<double> delays;
  for (const int64_t step : {10, 10, 7, 11, 11, 12}) {
    const RestartDecision decision = policy.Next(5, step, 8);
    ASSERT_TRUE(decision.restart) << step;
    delays.push_back(decision.delay);
  }
  EXPECT_EQ(delays, (std::vector<double>{0, 1, 2, 0, 1, 0}));
  for (int i = 0; i + 1 < RestartPolicy::kBarren; ++i) EXPECT_TRUE(policy.Next(5, -1, 8).restart);
  const RestartDecision last = policy.Next(5, -1, 8);
  EXPECT_FALSE(last.restart);
  EXPECT_THAT(last.reason, HasSubstr("no progress"));
}

// A lost host, or a damaged checkpoint, may take a run back behind what it had reached.
TEST(RestartPolicy, WhatIsMadeAgainAndKeptIsProgress) {
  RestartPolicy policy(std::nullopt);
  for (const auto& [step, kept, delay] : std::vector<std::tuple<int64_t, int64_t, double>>{{1000, 990, 0},
                                                                                           {600, 500, 1},
                                                                                           {601, 600, 0},
                                                                                           {700, 699, 0},
                                                                                           {701, 699, 1},
                                                                                           {702, 701, 0},
                                                                                           {702, 701, 1},
                                                                                           {702, 700, 2}}) {
    const RestartDecision decision = policy.Next(5, step, kept);
    EXPECT_TRUE(decision.restart) << step;
    EXPECT_EQ(decision.delay, delay) << step;
  }
  EXPECT_FALSE(policy.Next(5, 702, 700).restart);
}

TEST(RestartPolicy, ABudgetIsWhatIsSpent) {
  RestartPolicy policy(9);
  double longest = 0;
  for (int i = 0; i < 9; ++i) {
    const RestartDecision decision = policy.Next(1, 3, -1);
    ASSERT_TRUE(decision.restart) << i;
    longest = std::max(longest, decision.delay);
  }
  EXPECT_EQ(longest, RestartPolicy::kLongestDelay);
  EXPECT_FALSE(policy.Next(1, 1000, -1).restart);
  EXPECT_EQ(policy.restarts(), 9);
  EXPECT_FALSE(RestartPolicy(0).Next(5, 10, 8).restart);
}

JournalEvent At(double time, const std::string& event, std::optional<int64_t> step = {}, std::optional<double> idle = {}) {
  return {.time = time, .event = event, .step = step, .idle_seconds = idle};
}

TEST(Ettr, CountsWhatWasKept) {
  // 10 s until the first step; 40 s of steps 0 to 20, then 4 s until the hang is found; from step 15 again after 2 s more; 30 s until the end.
  std::vector<JournalEvent> events = {At(100, "begin"), At(100, "start"), At(110, "training", 0), At(154, "hung", 20, 4),
                                      At(154, "start")};
  EXPECT_DOUBLE_EQ(SecondsLost(events, 156, 15), 6 + 10);
  EXPECT_DOUBLE_EQ(SecondsLost(events, 156, 20), 6);
  events.push_back(At(156, "training", 15));
  EXPECT_DOUBLE_EQ(EttrOf(events, 166).productive, 30 + 10) << "it runs";
  events.push_back(At(186, "exit", 40, 0));
  events.push_back(At(186, "end"));
  const Ettr ettr = EttrOf(events, 1000);
  EXPECT_DOUBLE_EQ(ettr.wall, 86);
  EXPECT_DOUBLE_EQ(ettr.productive, 30 + 30);
  EXPECT_EQ(ettr.restarts, 1);
  // Another supervisor, later: the time between does not count, nor does its first start as a restart.
  events.insert(events.end(),
                {At(500, "begin"), At(500, "start"), At(504, "training", 40), At(520, "exit", 50, 0), At(520, "end")});
  EXPECT_DOUBLE_EQ(EttrOf(events, 1000).wall, 106);
  EXPECT_DOUBLE_EQ(EttrOf(events, 1000).productive, 60 + 16);
  EXPECT_EQ(EttrOf(events, 1000).restarts, 1);
  // One that was killed, and one whose job never trains: of the first counts what it wrote down.
  events.insert(events.end(), {At(600, "begin"), At(600, "start"), At(604, "training", 50), At(700, "begin"), At(700, "start"),
                               At(702, "exit", 50, 0), At(702, "end")});
  EXPECT_DOUBLE_EQ(EttrOf(events, 1000).wall, 106 + 4 + 2);
  EXPECT_DOUBLE_EQ(EttrOf(events, 1000).productive, 76);
}

TEST(Journal, IsReadAsWrittenAndOutlivesATornLine) {
  const TempFolder folder;
  {
    absl::StatusOr<Journal> journal = Journal::Open(folder.path());
    ASSERT_TRUE(journal.ok()) << journal.status();
    journal->Append({.event = "died",
                     .exit = 5,
                     .rank = 2,
                     .pid = 4711,
                     .step = 41,
                     .phase = "dispatch, 0F3",
                     .idle_seconds = 0.25,
                     .detail = "\xFF\"\n"});
    const auto other = Journal::Open(folder.path());
    EXPECT_EQ(ExitCodeOf(other.status()), ExitCode::kUsage) << "one supervisor at a time";
  }
  std::ofstream(folder / "supervise.jsonl", std::ios::app) << "{\"time\":1,\"event\":\"sta";
  absl::StatusOr<Journal> journal = Journal::Open(folder.path());
  ASSERT_TRUE(journal.ok()) << journal.status();
  journal->Append({.event = "end", .exit = 0});
  const std::vector<JournalEvent> events = ReadJournal(folder.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].event, "died");
  EXPECT_EQ(events[0].exit, 5);
  EXPECT_EQ(events[0].rank, 2);
  EXPECT_EQ(events[0].pid, 4711);
  EXPECT_EQ(events[0].step, 41);
  EXPECT_EQ(events[0].phase, "dispatch, 0F3");
  EXPECT_EQ(events[0].idle_seconds, 0.25);
  EXPECT_GT(events[0].time, 1e9);
  EXPECT_EQ(events[1].event, "end");
}

}  // namespace
}  // namespace jevons
