// Every operation of a save and of a load fails once, and from there on, with every reason: a save is whole
// or it never was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "parallel/comm/loopback.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/memory_disk.h"
#include "tests/support/trials.h"
#include "tests/trainer/checkpoint/test_state.h"

namespace jevons {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kDirectory[] = "run/checkpoints";
constexpr int kReasons[] = {ENOSPC, EIO, EROFS, EDQUOT, EMFILE};

absl::Status SaveThrough(FileSystem& files, const TestState& state, Communicator& world) {
  CheckpointWriter writer(files, kDirectory, world, /*keep=*/1);
  return Save(writer, state, world);
}

// "" where every checkpoint that shows is whole and its step's own.
std::string Damage(FileSystem& files) {
  const std::vector<int64_t> steps = CommittedSteps(files, kDirectory).value();
  for (const int64_t step : steps) {
    auto reader = CheckpointReader::Open(files, CheckpointPath(files, kDirectory, step).value());
    if (!reader.ok()) return std::string(reader.status().message());
    if (std::string mismatch = TestState(step).Mismatch(*reader, 1); !mismatch.empty()) return mismatch;
  }
  return "";
}

// One rank's disk fails by `plan` while step 2 is saved; step 1 was saved before. Returns whether the plan
// struck.
bool TrySave(int ranks, int victim, const FaultPlan& plan) {
  const TestState first(1), second(2);
  MemoryDisk disk;
  FaultFileSystem faulty(disk, plan);
  std::vector<absl::Status> statuses(static_cast<size_t>(ranks));
  RunLoopback(ranks, [&](Communicator& world) {
    EXPECT_EQ(SaveThrough(disk, first, world), absl::OkStatus());
    FileSystem& mine = world.rank() == victim ? static_cast<FileSystem&>(faulty) : disk;
    statuses[static_cast<size_t>(world.rank())] = SaveThrough(mine, second, world);
  });
  const absl::Status& status = statuses[0];
  for (const absl::Status& other : statuses) EXPECT_EQ(other, status);
  EXPECT_EQ(Damage(disk), "");
  const std::vector<int64_t> steps = CommittedSteps(disk, kDirectory).value();
  if (status.ok()) {
    EXPECT_THAT(steps, Contains(2));
  } else {
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kFailure);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::strerror(plan.error_number)));
    EXPECT_THAT(std::string(status.message()), HasSubstr("run"));
    EXPECT_THAT(steps, Contains(1));
    const bool nothing_more = plan.failures == 1 && !plan.happens_anyway;
    EXPECT_TRUE(!nothing_more || steps.size() == 1) << "a failed save looks committed";
  }
  // Once the disk is well, the same step can be saved, and nothing is left over.
  RunLoopback(ranks, [&](Communicator& world) { EXPECT_EQ(SaveThrough(disk, second, world), absl::OkStatus()); });
  EXPECT_EQ(Damage(disk), "");
  EXPECT_THAT(CommittedSteps(disk, kDirectory).value(), ElementsAre(2));
  EXPECT_EQ(disk.List(kDirectory).value().size(), 1u);
  return faulty.failed() > 0;
}

// Lets operation 0, 1, ... of each rank fail; returns how many trials there were.
int TryAllOperations(int ranks, int64_t failures, bool happens_anyway) {
  int trials = 0;
  for (int victim = 0; victim < ranks; ++victim) {
    for (const int reason : kReasons) {
      for (int64_t operation = 0;; ++operation, ++trials) {
        SCOPED_TRACE(testing::Message() << "rank " << victim << " of " << ranks << ", operation " << operation << ", "
                                        << std::strerror(reason));
        const bool struck =
            TrySave(ranks, victim,
                    {.first_failure = operation, .failures = failures, .error_number = reason, .happens_anyway = happens_anyway});
        if (!struck || testing::Test::HasFailure()) break;
      }
    }
  }
  ReportTrials("errors", trials, "all", "each operation of a save fails: ENOSPC, EIO, EROFS, EDQUOT, EMFILE");
  return trials;
}

constexpr int64_t kForEver = int64_t{1} << 40;

TEST(IoErrors, OneOperationFails) {
  EXPECT_GT(TryAllOperations(1, 1, false), 5 * 20);
  EXPECT_GT(TryAllOperations(3, 1, false), 5 * (20 + 4 + 4));
}

TEST(IoErrors, AllOperationsFailFromOneOn) { TryAllOperations(2, kForEver, false); }

TEST(IoErrors, OneOperationIsDoneButReportedAsFailed) { TryAllOperations(2, 1, true); }

TEST(IoErrors, ShortWritesAndReads) {
  const TestState state(2);
  MemoryDisk disk;
  FaultFileSystem files(disk, {.largest_transfer = 7});
  RunLoopback(2, [&](Communicator& world) { EXPECT_EQ(SaveThrough(files, state, world), absl::OkStatus()); });
  EXPECT_EQ(Damage(files), "");
  EXPECT_EQ(Damage(disk), "");
}

TEST(IoErrors, ALoadFailsOrIsRight) {
  const TestState state(2);
  MemoryDisk disk;
  RunLoopback(3, [&](Communicator& world) { EXPECT_EQ(SaveThrough(disk, state, world), absl::OkStatus()); });
  const std::string path = CheckpointPath(disk, kDirectory, 2).value();
  int64_t operation = 0;
  for (;; ++operation) {
    FaultFileSystem files(disk, {.first_failure = operation});
    auto reader = CheckpointReader::Open(files, path);
    const std::string mismatch = reader.ok() ? state.Mismatch(*reader, 2) : std::string(reader.status().message());
    if (files.failed() == 0) {
      EXPECT_EQ(mismatch, "");
      break;
    }
    EXPECT_THAT(mismatch, HasSubstr("Input/output error"));
  }
  EXPECT_GT(operation, 10);
  ReportTrials("errors", operation, "all", "each operation of a load fails");
}

}  // namespace
}  // namespace jevons
