// The power fails after every operation of a series of saves, and the disk comes up in every way (or in many)
// that it may: what was reported as committed is there, and what shows is whole. Then the same with fsyncs
// left out, to show that this test would notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "parallel/comm/loopback.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/memory_disk.h"
#include "tests/support/trials.h"
#include "tests/trainer/checkpoint/test_state.h"

namespace jevons {
namespace {

using ::testing::IsEmpty;

constexpr char kDirectory[] = "run/checkpoints";
constexpr int64_t kSteps = 3;

class CrashWatch {
 public:
  explicit CrashWatch(int limit) : limit_(limit) {
    for (int64_t step = 1; step <= kSteps; ++step) states_.emplace(step, TestState(step, /*scale=*/3));
  }

  const TestState& state(int64_t step) const { return states_.at(step); }
  void Promise(int64_t step) { promised_ = step; }  // no operation is under way

  // Looks at the states that the disk may come up in.
  void Look(const MemoryDisk& disk) {
    disk.ForEachPowerLoss(limit_, static_cast<uint64_t>(looks_++), [&](MemoryDisk& survivor) {
      if (!seen_.insert(std::hash<std::string>()(absl::StrCat(promised_, survivor.Dump()))).second) return;
      if (const std::string violation = Violation(survivor); !violation.empty()) violations_.push_back(violation);
    });
  }

  const std::vector<std::string>& violations() const { return violations_; }
  size_t distinct_states() const { return seen_.size(); }

 private:
  std::string Violation(MemoryDisk& survivor) const {
    const std::vector<int64_t> steps = CommittedSteps(survivor, kDirectory).value();
    if (promised_ > 0 && (steps.empty() || steps.back() < promised_)) return absl::StrCat("step ", promised_, " is lost");
    for (const int64_t step : steps) {
      auto reader = CheckpointReader::Open(survivor, CheckpointPath(survivor, kDirectory, step).value());
      if (!reader.ok()) return std::string(reader.status().message());
      if (std::string mismatch = states_.at(step).Mismatch(*reader, 1); !mismatch.empty()) return mismatch;
    }
    return "";
  }

  const int limit_;
  int looks_ = 0;
  std::map<int64_t, TestState> states_;
  int64_t promised_ = 0;  // between looks
  std::set<size_t> seen_;
  std::vector<std::string> violations_;
};

// Saves steps 1, 2, 3 and 3 again, keeping one, through `plan`; power losses after every operation go to
// `watch`. Returns whether the plan let an operation fail.
bool SaveUnderWatch(int ranks, const FaultPlan& plan, CrashWatch& watch, MemoryDisk& disk) {
  EXPECT_EQ(disk.MakeDirectory("run"), absl::OkStatus());
  EXPECT_EQ(disk.SyncDirectory("/"), absl::OkStatus());
  disk.SetObserver([&](const MemoryDisk& now) { watch.Look(now); });
  FaultFileSystem files(disk, plan);
  RunLoopback(ranks, [&](Communicator& world) {
    CheckpointWriter writer(files, kDirectory, world, /*keep=*/1);
    for (const int64_t step : {int64_t{1}, int64_t{2}, kSteps, kSteps}) {
      if (Save(writer, watch.state(step), world).ok() && world.rank() == 0) watch.Promise(step);
      world.Barrier();
    }
  });
  watch.Look(disk);
  disk.SetObserver(nullptr);
  return files.failed() > 0;
}

TEST(PowerLoss, WhatWasCommittedSurvivesAndWhatShowsIsWhole) {
  size_t states = 0;
  for (const int ranks : {1, 3}) {
    MemoryDisk disk;
    CrashWatch watch(static_cast<int>(Trials(2000)));
    SaveUnderWatch(ranks, {}, watch, disk);
    EXPECT_THAT(watch.violations(), IsEmpty());
    EXPECT_EQ(disk.List(kDirectory).value(), std::vector<std::string>{"step-00000003.1"});
    states += watch.distinct_states();
  }
  EXPECT_GT(states, 5000u);
  ReportTrials("power", static_cast<int64_t>(states), "random", absl::StrCat(states, " distinct states of the disk"));
}

TEST(PowerLoss, AlsoWhereAnOperationFailedBefore) {
  int64_t operation = 0;
  for (bool struck = true; struck && !HasFailure(); ++operation) {
    MemoryDisk disk;
    CrashWatch watch(/*limit=*/12);
    const auto forget = [&](const std::string& path) { disk.ForgetUnsynced(path); };
    struck = SaveUnderWatch(1, {.first_failure = operation, .on_failed_sync = forget}, watch, disk);
    EXPECT_THAT(watch.violations(), IsEmpty()) << "operation " << operation;
  }
  EXPECT_GT(operation, 80);
}

TEST(PowerLoss, TheNextRunGoesOnFromWhateverIsLeft) {
  MemoryDisk disk;
  CrashWatch watch(/*limit=*/1);
  const TestState next(kSteps + 1, /*scale=*/3);
  int states = 0;
  ASSERT_EQ(disk.MakeDirectory("run"), absl::OkStatus());
  ASSERT_EQ(disk.SyncDirectory("/"), absl::OkStatus());
  disk.SetObserver([&](const MemoryDisk& now) {
    now.ForEachPowerLoss(8, static_cast<uint64_t>(states), [&](MemoryDisk& survivor) {
      ++states;
      RunLoopback(1, [&](Communicator& world) {
        CheckpointWriter writer(survivor, kDirectory, world, /*keep=*/1);
        EXPECT_EQ(Save(writer, next, world), absl::OkStatus());
      });
      EXPECT_EQ(survivor.List(kDirectory).value(), std::vector<std::string>{"step-00000004"});
    });
  });
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter writer(disk, kDirectory, world, /*keep=*/1);
    for (int64_t step = 1; step <= 2; ++step) EXPECT_EQ(Save(writer, watch.state(step), world), absl::OkStatus());
  });
  disk.SetObserver(nullptr);
  EXPECT_GT(states, 200);
}

// Which syncs to leave out or to delay: `policy` for the paths that end so, and among them for every
// `period`-th from `first` on, counted from 0.
struct Mutant {
  std::string name, path_end;
  SyncPolicy policy = SyncPolicy::kSkip;
  int first = 0, period = 1;
};

class PowerLossTeeth : public testing::TestWithParam<Mutant> {};

TEST_P(PowerLossTeeth, TheMutantIsCaught) {
  const Mutant& mutant = GetParam();
  MemoryDisk disk;
  CrashWatch watch(/*limit=*/60);
  std::atomic<int> hits = 0;
  const auto policy = [&](const std::string& path) {
    if (!absl::EndsWith(path, mutant.path_end)) return SyncPolicy::kHonest;
    const int hit = hits++;
    return hit >= mutant.first && (hit - mutant.first) % mutant.period == 0 ? mutant.policy : SyncPolicy::kHonest;
  };
  SaveUnderWatch(3, {.sync_policy = policy}, watch, disk);
  EXPECT_GT(hits, 0);
  EXPECT_FALSE(watch.violations().empty()) << "no one noticed";
  ReportTrials("teeth", 1, "all", "fsyncs left out or late are noticed");
}

INSTANTIATE_TEST_SUITE_P(Syncs, PowerLossTeeth,
                         testing::Values(Mutant{"NoFsyncOfRankFiles", ".bin"}, Mutant{"NoFsyncOfRank0", "rank-00000.bin"},
                                         Mutant{"NoFsyncOfRank1", "rank-00001.bin"}, Mutant{"NoFsyncOfRank2", "rank-00002.bin"},
                                         Mutant{"RankFilesFsyncedAfterTheCommit", ".bin", SyncPolicy::kLateAfterRename},
                                         Mutant{"Rank1FsyncedAfterTheCommit", "rank-00001.bin", SyncPolicy::kLateAfterRename},
                                         Mutant{"OneFsyncInSevenLeftOut", ".bin", SyncPolicy::kSkip, 4, 7},
                                         Mutant{"NoFsyncOfTheManifest", "manifest.pb"},
                                         Mutant{"ManifestFsyncedAfterTheCommit", "manifest.pb", SyncPolicy::kLateAfterRename},
                                         Mutant{"NoSyncOfTheNewFolder", ".partial"}, Mutant{"NoSyncOfCheckpoints", "checkpoints"},
                                         Mutant{"NoSyncAfterTheFirstCommit", "checkpoints", SyncPolicy::kSkip, 0, 100},
                                         Mutant{"NoSyncAfterTheSecondCommit", "checkpoints", SyncPolicy::kSkip, 1, 100},
                                         Mutant{"NoSyncBeforeTheFirstRemoval", "checkpoints", SyncPolicy::kSkip, 2, 100},
                                         Mutant{"NoSyncOfTheRunFolder", "run"}),
                         [](const testing::TestParamInfo<Mutant>& info) { return info.param.name; });

}  // namespace
}  // namespace jevons
