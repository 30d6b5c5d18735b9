// What one layout saves, every other loads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "parallel/comm/loopback.h"
#include "tests/support/temp_folder.h"
#include "tests/trainer/checkpoint/test_state.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Saves `state` with `ranks` ranks into `directory`.
void SaveWith(int ranks, const TestState& state, const std::string& directory, int keep = 3) {
  RunLoopback(ranks, [&](Communicator& world) {
    CheckpointWriter writer(PosixFileSystem(), directory, world, keep);
    EXPECT_EQ(Save(writer, state, world), absl::OkStatus());
    EXPECT_EQ(writer.last_committed(), state.step());
  });
}

CheckpointReader OpenStep(const std::string& directory, int64_t step) {
  const auto path = CheckpointPath(PosixFileSystem(), directory, step);
  EXPECT_TRUE(path.ok()) << path.status();
  auto reader = CheckpointReader::Open(PosixFileSystem(), *path);
  EXPECT_TRUE(reader.ok()) << reader.status();
  return *std::move(reader);
}

std::vector<int64_t> Steps(const std::string& directory) { return CommittedSteps(PosixFileSystem(), directory).value(); }

TEST(RoundTrip, EveryLayoutReadsEveryLayout) {
  const TestState state(12);
  std::set<std::string> hashes;
  for (const int ranks : {1, 2, 3, 4, 8}) {
    const TempFolder run;
    SaveWith(ranks, state, run.path() + "/checkpoints");
    EXPECT_THAT(Steps(run.path() + "/checkpoints"), ElementsAre(12));
    CheckpointReader reader = OpenStep(run.path() + "/checkpoints", 12);
    EXPECT_EQ(reader.Verify(), absl::OkStatus());
    for (const int parts : {1, 2, 3, 5, 7, 8}) EXPECT_EQ(state.Mismatch(reader, parts), "") << ranks << " to " << parts;
    hashes.insert(StateHash(reader).value());
  }
  EXPECT_EQ(hashes.size(), 1u);
  EXPECT_EQ(hashes.begin()->size(), 32u);
}

TEST(RoundTrip, TensorsOfManyChunks) {
  const TestState state(1, /*scale=*/2000);  // 9.6 MB and 12 MB
  const TempFolder run;
  SaveWith(2, state, run.path());
  CheckpointReader reader = OpenStep(run.path(), 1);
  EXPECT_EQ(reader.Verify(), absl::OkStatus());
  for (const int parts : {1, 3, 64}) EXPECT_EQ(state.Mismatch(reader, parts), "") << parts;
}

TEST(RoundTrip, TheDataMayChangeOnceBeginReturns) {
  const TestState state(5);
  const TempFolder run;
  RunLoopback(3, [&](Communicator& world) {
    CheckpointWriter writer(PosixFileSystem(), run.path(), world, 1);
    {
      const TestState copy = state;
      EXPECT_EQ(writer.Begin(copy.Info(), copy.Slices(world.rank(), world.size())), absl::OkStatus());
    }
    EXPECT_TRUE(writer.in_flight());
    std::optional<int64_t> committed;
    while (!committed) committed = writer.Poll().value();
    EXPECT_EQ(committed, 5);
    EXPECT_FALSE(writer.in_flight());
    EXPECT_EQ(writer.Poll().value(), std::nullopt);
    EXPECT_EQ(writer.Finish().value(), std::nullopt);
    EXPECT_GT(writer.stall_seconds(), 0);
    EXPECT_EQ(writer.bytes_written(), writer.staging_bytes());
  });
  CheckpointReader reader = OpenStep(run.path(), 5);
  EXPECT_EQ(state.Mismatch(reader, 1), "");
}

TEST(RoundTrip, BeginFinishesTheSaveBeforeIt) {
  const TestState first(1), second(2);
  const TempFolder run;
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter writer(PosixFileSystem(), run.path(), world, 5);
    EXPECT_EQ(writer.Begin(first.Info(), first.Slices(world.rank(), 2)), absl::OkStatus());
    EXPECT_EQ(writer.Begin(second.Info(), second.Slices(world.rank(), 2)), absl::OkStatus());
    EXPECT_EQ(writer.last_committed(), 1);
    EXPECT_EQ(writer.Finish().value(), 2);
  });
  EXPECT_THAT(Steps(run.path()), ElementsAre(1, 2));
}

TEST(RoundTrip, AWriterThatGoesLeavesNoCheckpoint) {
  const TestState state(1, 500);
  const TempFolder run;
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter writer(PosixFileSystem(), run.path(), world, 5);
    EXPECT_EQ(writer.Begin(state.Info(), state.Slices(world.rank(), 2)), absl::OkStatus());
  });
  EXPECT_THAT(Steps(run.path()), IsEmpty());
  EXPECT_THAT(PosixFileSystem().List(run.path()).value(), ElementsAre("step-00000001.partial"));
  const auto reader = CheckpointReader::Open(PosixFileSystem(), run.path() + "/step-00000001.partial");
  EXPECT_EQ(ExitCodeOf(reader.status()), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(reader.status().message()), HasSubstr("never committed"));

  SaveWith(1, TestState(2), run.path());  // the next save removes it
  EXPECT_THAT(PosixFileSystem().List(run.path()).value(), ElementsAre("step-00000002"));
}

TEST(Keep, TheNewestStay) {
  const TempFolder run;
  RunLoopback(2, [&](Communicator& world) {
    CheckpointWriter writer(PosixFileSystem(), run.path(), world, 2);
    for (int64_t step = 1; step <= 5; ++step) EXPECT_EQ(Save(writer, TestState(step), world), absl::OkStatus());
  });
  EXPECT_THAT(PosixFileSystem().List(run.path()).value(), ElementsAre("step-00000004", "step-00000005"));
}

TEST(Keep, WhatIsNewerThanTheCommitIsNotTouched) {
  const TempFolder run;
  for (const int64_t step : {8, 12, 16}) SaveWith(1, TestState(step), run.path(), 3);
  SaveWith(1, TestState(10), run.path(), 1);
  EXPECT_THAT(Steps(run.path()), ElementsAre(10, 12, 16));
}

TEST(Keep, AStepSavedAgainTakesThePlaceOfTheOlder) {
  const TempFolder run;
  TestState state(7);
  SaveWith(1, state, run.path());
  const std::string first = CheckpointPath(PosixFileSystem(), run.path(), 7).value();
  SaveWith(3, state, run.path());
  SaveWith(2, state, run.path());
  EXPECT_THAT(Steps(run.path()), ElementsAre(7));
  const std::string last = CheckpointPath(PosixFileSystem(), run.path(), 7).value();
  EXPECT_NE(first, last);
  EXPECT_THAT(PosixFileSystem().List(run.path()).value(), ElementsAre("step-00000007.2"));
  CheckpointReader reader = OpenStep(run.path(), 7);
  EXPECT_EQ(state.Mismatch(reader, 4), "");
}

TEST(Keep, OtherNamesAreNoCheckpoints) {
  const TempFolder run;
  for (const char* name :
       {"step-00000003.bad", "step-12", "step-0000000x", "step-00000012.0", "step--0000001", "step-00000004.partial", "mine"}) {
    ASSERT_EQ(PosixFileSystem().MakeDirectory(run.path() + "/" + name), absl::OkStatus());
  }
  EXPECT_THAT(Steps(run.path()), IsEmpty());
  SaveWith(1, TestState(5), run.path(), 1);
  EXPECT_THAT(Steps(run.path()), ElementsAre(5));
  EXPECT_TRUE(PosixFileSystem().Stat(run.path() + "/step-00000003.bad").value().has_value());
  EXPECT_TRUE(PosixFileSystem().Stat(run.path() + "/mine").value().has_value());
  EXPECT_FALSE(PosixFileSystem().Stat(run.path() + "/step-00000004.partial").value().has_value());
}

TEST(Names, OneThatSaysAnotherStepIsRefused) {
  const TempFolder run;
  SaveWith(1, TestState(5), run.path());
  FileSystem& files = PosixFileSystem();
  const std::string right = run.path() + "/step-00000005";
  for (const char* name : {"/step-00000010", "/step-00000010.1"}) {
    ASSERT_EQ(files.Rename(right, run.path() + name), absl::OkStatus());
    for (const char* slash : {"", "/"}) {
      const absl::Status status = CheckpointReader::Open(files, run.path() + name + slash).status();
      EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr("holds step 5, but its name says step 10; rename it to step-00000005"));
    }
    ASSERT_EQ(files.Rename(run.path() + name, right), absl::OkStatus());
  }
  for (const char* name : {"/step-00000005.3", "/step_000010", "/mine"}) {  // its own step, or none
    ASSERT_EQ(files.Rename(right, run.path() + name), absl::OkStatus());
    EXPECT_TRUE(CheckpointReader::Open(files, run.path() + name).ok()) << name;
    ASSERT_EQ(files.Rename(run.path() + name, right), absl::OkStatus());
  }
}

// Else a run would start anew beside what it has done.
TEST(Names, ARenamedOneIsToldWhereItIsTheLast) {
  const TempFolder run;
  SaveWith(1, TestState(5), run.path());
  FileSystem& files = PosixFileSystem();
  ASSERT_EQ(files.Rename(run.path() + "/step-00000005", run.path() + "/step_000005"), absl::OkStatus());
  const absl::Status status = CommittedSteps(files, run.path()).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(run.path() + ": no folder"), HasSubstr("step_000005 has a manifest.pb"),
                    HasSubstr("rename it to step-NNNNNNNN")));
  SaveWith(1, TestState(6), run.path());
  EXPECT_THAT(Steps(run.path()), ElementsAre(6));
}

TEST(Read, WhatTheRunWantsMustBeWhatIsThere) {
  const TempFolder run;
  SaveWith(1, TestState(5), run.path());
  CheckpointReader reader = OpenStep(run.path(), 5);
  float value;
  const auto message = [&](const std::string& name, DType dtype, const Shape& shape) {
    const absl::Status status = reader.Read(name, dtype, shape, {0, 1}, &value);
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
    return std::string(status.message());
  };
  EXPECT_THAT(message("norms", DType::kF32, {1}), HasSubstr("no tensor norms"));
  EXPECT_THAT(message("norm", DType::kI32, {1}), HasSubstr("tensor norm is F32 [1], but the run wants I32 [1]"));
  EXPECT_THAT(message("norm", DType::kF32, {1, 1}), HasSubstr("is F32 [1], but the run wants F32 [1, 1]"));
}

TEST(Steps, AMissingOneIsNamedWithThoseThatAreThere) {
  const TempFolder run;
  EXPECT_THAT(Steps(run.path() + "/nowhere"), IsEmpty());
  SaveWith(1, TestState(5), run.path());
  const absl::Status status = CheckpointPath(PosixFileSystem(), run.path(), 6).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no checkpoint of step 6; there are those of steps 5"));
  const absl::Status nowhere = CheckpointReader::Open(PosixFileSystem(), run.path() + "/step-00000006").status();
  EXPECT_EQ(ExitCodeOf(nowhere), ExitCode::kIntegrity);
}

}  // namespace
}  // namespace jevons
