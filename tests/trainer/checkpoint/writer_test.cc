// Saves that must not become checkpoints: ranks that do not fit together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/match.h"
#include "kernels/base/status.h"
#include "parallel/comm/loopback.h"
#include "tests/support/memory_disk.h"
#include "tests/trainer/checkpoint/test_state.h"
#include "trainer/checkpoint/agreement.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The failure of saving step 2 after `spoil` has changed what each rank holds. Step 1 was saved before and
// must stay.
std::string SpoiledSave(const std::function<void(int rank, std::vector<TensorSlice>&)>& spoil) {
  const TestState first(1), second(2);
  MemoryDisk disk;
  std::vector<std::string> messages(3);
  RunLoopback(3, [&](Communicator& world) {
    CheckpointWriter writer(disk, "checkpoints", world, 1);
    EXPECT_EQ(Save(writer, first, world), absl::OkStatus());
    std::vector<TensorSlice> slices = second.Slices(world.rank(), world.size());
    spoil(world.rank(), slices);
    EXPECT_EQ(writer.Begin(second.Info(), slices), absl::OkStatus());
    const auto committed = writer.Finish();
    EXPECT_EQ(ExitCodeOf(committed.status()), ExitCode::kFailure);
    messages[static_cast<size_t>(world.rank())] = std::string(committed.status().message());
    EXPECT_EQ(writer.last_committed(), 1);
  });
  EXPECT_EQ(messages[1], messages[0]);
  EXPECT_EQ(messages[2], messages[0]);
  EXPECT_THAT(disk.List("checkpoints").value(), ElementsAre("step-00000001"));
  return messages[0];
}

TEST(Writer, ElementsThatNoRankHoldsAreMissed) {
  const std::string message = SpoiledSave([](int rank, std::vector<TensorSlice>& slices) {
    if (rank == 1) slices[0].elements.end -= 3;
  });
  EXPECT_THAT(message, AllOf(HasSubstr("no whole checkpoint"), HasSubstr("tensor embedding.weight: elements ["),
                             HasSubstr("are missing")));
}

TEST(Writer, ElementsThatTwoRanksHoldAreNoticed) {
  const std::string message = SpoiledSave([](int rank, std::vector<TensorSlice>& slices) {
    if (rank == 0) slices[0].elements.end += 2;  // the data is one piece in a TestState
  });
  EXPECT_THAT(message, AllOf(HasSubstr("tensor embedding.weight: elements ["), HasSubstr("are there twice")));
}

TEST(Writer, RanksAgreeOnShapeAndType) {
  std::string message = SpoiledSave([](int rank, std::vector<TensorSlice>& slices) {
    if (rank == 2) slices[0].shape = {30, 40};
  });
  EXPECT_THAT(message, HasSubstr("tensor embedding.weight: rank 2 calls it F32 [30, 40], a rank before it F32 [40, 30]"));
  message = SpoiledSave([](int rank, std::vector<TensorSlice>& slices) {
    if (rank == 0) slices[0].dtype = DType::kI32;
  });
  EXPECT_THAT(message, HasSubstr("rank 1 calls it F32"));
}

// A disk that keeps one folder, as NFS does while somebody reads a file in it.
class HeldFolder : public MemoryDisk {
 public:
  absl::Status RemoveDirectory(const std::string& path) override {
    if (held.empty() || !absl::StrContains(path, held)) return MemoryDisk::RemoveDirectory(path);
    return FailureError(path + ": Directory not empty");
  }
  std::string held;
};

TEST(Writer, AFolderThatCannotBeRemovedStopsNoSave) {
  HeldFolder disk;
  disk.held = "step-00000002";
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter writer(disk, "checkpoints", world, 2);
    for (int64_t step = 2; step <= 12; step += 2) {
      EXPECT_EQ(Save(writer, TestState(step), world), absl::OkStatus());
      EXPECT_EQ(writer.last_committed(), step);
    }
  });
  EXPECT_THAT(disk.List("checkpoints").value(), ElementsAre("step-00000002.partial", "step-00000010", "step-00000012"));
  disk.held.clear();
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter writer(disk, "checkpoints", world, 2);
    EXPECT_EQ(Save(writer, TestState(14), world), absl::OkStatus());
  });
  EXPECT_THAT(disk.List("checkpoints").value(), ElementsAre("step-00000012", "step-00000014"));
}

TEST(Writer, AFolderThatRanksDoNotShareIsNoticed) {
  const TestState state(1);
  MemoryDisk shared, own;
  RunLoopback(3, [&](Communicator& world) {
    CheckpointWriter writer(world.rank() == 1 ? own : shared, "checkpoints", world, 1);
    const absl::Status status = Save(writer, state, world);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("rank-00001.bin"), HasSubstr("all ranks share")));
  });
  EXPECT_THAT(CommittedSteps(shared, "checkpoints").value(), ElementsAre());

  ASSERT_EQ(MakeDirectories(own, "checkpoints/step-00000001.partial"), absl::OkStatus());
  RunLoopback(3, [&](Communicator& world) {
    CheckpointWriter writer(world.rank() == 1 ? own : shared, "checkpoints", world, 1);
    const absl::Status status = Save(writer, state, world);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("rank 0 sees no file"), HasSubstr("all ranks share")));
  });
  EXPECT_THAT(CommittedSteps(shared, "checkpoints").value(), ElementsAre());
}

TEST(Writer, AFailureDoesNotStopTheNextSave) {
  const TestState first(1), second(2);
  MemoryDisk disk;
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter writer(disk, "checkpoints", world, 1);
    std::vector<TensorSlice> slices = first.Slices(world.rank(), 2);
    slices.pop_back();
    if (world.rank() == 0) slices.pop_back();
    EXPECT_EQ(writer.Begin(first.Info(), slices), absl::OkStatus());
    EXPECT_EQ(Save(writer, second, world), absl::OkStatus());
    EXPECT_EQ(writer.last_committed(), 2);
  });
  EXPECT_THAT(disk.List("checkpoints").value(), ElementsAre("step-00000002"));
}

TEST(Writer, ARankWithoutElementsMakesNoFile) {
  MemoryDisk disk;
  const float value = 1.5f;
  RunLoopback(3, [&](Communicator& world) {
    CheckpointWriter writer(disk, "checkpoints", world, 1);
    std::vector<TensorSlice> slices;
    if (world.rank() == 1) slices.push_back({"one", DType::kF32, {}, {0, 1}, &value});
    EXPECT_EQ(writer.Begin({.step = 0}, slices), absl::OkStatus());
    EXPECT_EQ(writer.Finish().value(), 0);
  });
  EXPECT_THAT(disk.List("checkpoints/step-00000000").value(), ElementsAre("manifest.pb", "rank-00001.bin"));
  auto reader = CheckpointReader::Open(disk, "checkpoints/step-00000000");
  float read = 0;
  EXPECT_EQ(reader->Read("one", DType::kF32, {}, {0, 1}, &read), absl::OkStatus());
  EXPECT_EQ(read, value);
}

TEST(Agreement, TheLowestFailingRankSpeaksForAll) {
  RunLoopback(4, [](Communicator& world) {
    EXPECT_EQ(AgreeOnStatus(world, absl::OkStatus()), absl::OkStatus());
    const absl::Status mine = world.rank() == 1   ? IntegrityError("from rank 1")
                              : world.rank() == 3 ? FailureError("from the last rank, longer")
                                                  : absl::OkStatus();
    EXPECT_EQ(AgreeOnStatus(world, mine), IntegrityError("from rank 1"));
  });
}

}  // namespace
}  // namespace jevons
