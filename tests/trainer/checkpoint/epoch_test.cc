// Of two incarnations of a run the later commits, whatever the earlier one is about to do.
#include "trainer/checkpoint/epoch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/match.h"
#include "kernels/base/status.h"
#include "parallel/comm/loopback.h"
#include "tests/support/memory_disk.h"
#include "tests/trainer/checkpoint/test_state.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Epoch, RisesAndRefusesThoseBefore) {
  MemoryDisk disk;
  EXPECT_EQ(TakeEpoch(disk, "run/checkpoints").value(), 1);
  EXPECT_EQ(CheckEpoch(disk, "run/checkpoints", 1), absl::OkStatus());
  EXPECT_EQ(TakeEpoch(disk, "run/checkpoints").value(), 2);
  EXPECT_EQ(ExitCodeOf(CheckEpoch(disk, "run/checkpoints", 1)), ExitCode::kPeerLost);
  EXPECT_EQ(CheckEpoch(disk, "run/checkpoints", 2), absl::OkStatus());
  EXPECT_THAT(disk.List("run/checkpoints").value(), ElementsAre("epoch-00000002"));
}

// A disk on which another incarnation takes over at the worst instants: just after the commit has looked for its epoch, or just before the
// folder of a save is made. And it cannot remove the folder,
// as on NFS while somebody has a file of it open.
class TakenOver : public MemoryDisk {
 public:
  absl::Status MakeDirectory(const std::string& path) override {
    if (absl::StrContains(path, ".partial") && std::exchange(before_folder, false))
      taken = TakeEpoch(*this, "checkpoints").value();
    return MemoryDisk::MakeDirectory(path);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (std::exchange(after_look, false)) taken = TakeEpoch(*this, "checkpoints").value();
    return MemoryDisk::Rename(from, to);
  }
  absl::Status RemoveDirectory(const std::string& path) override {
    return absl::StrContains(path, ".partial") ? FailureError(path + ": Directory not empty") : MemoryDisk::RemoveDirectory(path);
  }
  bool after_look = false, before_folder = false;
  int64_t taken = 0;
};

TEST(Epoch, AnIncarnationThatWasTakenOverCommitsNothing) {
  MemoryDisk disk;
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter old(disk, "checkpoints", world, 1);
    ASSERT_EQ(old.TakeOver(), absl::OkStatus());
    EXPECT_EQ(Save(old, TestState(1), world), absl::OkStatus());
    ASSERT_EQ(old.Begin(TestState(2).Info(), TestState(2).Slices(world.rank(), world.size())), absl::OkStatus());
    CheckpointWriter young(disk, "checkpoints", world, 1);
    ASSERT_EQ(young.TakeOver(), absl::OkStatus());
    EXPECT_EQ(young.epoch(), 2);
    EXPECT_EQ(ExitCodeOf(old.Finish().status()), ExitCode::kPeerLost);
    ASSERT_EQ(young.Begin(TestState(2).Info(), TestState(2).Slices(world.rank(), world.size())), absl::OkStatus());
    const absl::Status begun = old.Begin(TestState(3).Info(), TestState(3).Slices(world.rank(), world.size()));
    EXPECT_EQ(ExitCodeOf(begun), ExitCode::kPeerLost);
    EXPECT_THAT(std::string(begun.message()), HasSubstr("epoch 2"));
    EXPECT_EQ(young.Finish().value(), 2) << "what the old one does leaves its save alone";
  });
  EXPECT_THAT(disk.List("checkpoints").value(), ElementsAre("epoch-00000002", "step-00000002"));
}

TEST(Epoch, NotEvenOneThatHasJustLooked) {
  TakenOver disk;
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter old(disk, "checkpoints", world, 1);
    ASSERT_EQ(old.TakeOver(), absl::OkStatus());
    ASSERT_EQ(old.Begin(TestState(1).Info(), TestState(1).Slices(world.rank(), world.size())), absl::OkStatus());
    world.Barrier();
    if (world.rank() == 0) disk.after_look = true;
    EXPECT_FALSE(old.Finish().ok());
  });
  EXPECT_EQ(disk.taken, 2);
  EXPECT_THAT(CommittedSteps(disk, "checkpoints").value(), ElementsAre());
}

TEST(Epoch, NorOneThatMakesItsFolderAfterwards) {
  TakenOver disk;
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter old(disk, "checkpoints", world, 1);
    ASSERT_EQ(old.TakeOver(), absl::OkStatus());
    if (world.rank() == 0) disk.before_folder = true;
    ASSERT_EQ(old.Begin(TestState(1).Info(), TestState(1).Slices(world.rank(), world.size())), absl::OkStatus());
    EXPECT_EQ(ExitCodeOf(old.Finish().status()), ExitCode::kPeerLost);
  });
  EXPECT_EQ(disk.taken, 2);
  EXPECT_THAT(CommittedSteps(disk, "checkpoints").value(), ElementsAre());
}

}  // namespace
}  // namespace jevons
