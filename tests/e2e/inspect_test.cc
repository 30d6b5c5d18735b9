// `jevons inspect` on checkpoints: what it shows, hashes, compares and refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launch/process.h"
#include "parallel/comm/loopback.h"
#include "tests/support/paths.h"
#include "trainer/checkpoint/writer.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

ProcessResult Inspect(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {BinaryPath("jevons"), "inspect"});
  return RunProcess(std::move(arguments), /*timeout_seconds=*/60);
}

class InspectCheckpoint : public ::testing::Test {
 protected:
  InspectCheckpoint() {
    std::string pattern = fs::temp_directory_path() / "jevons_inspect_XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~InspectCheckpoint() override { fs::remove_all(root_); }

  // A run of `ranks` ranks whose newest checkpoint holds one tensor, 0, 1, 2, ... with `first` at its head.
  std::string MakeRun(const std::string& name, int ranks, std::vector<int64_t> steps, float first = 0) {
    const std::string run = root_ + "/" + name;
    std::vector<float> values(100);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    values[0] = first;
    RunLoopback(ranks, [&](Communicator& world) {
      CheckpointWriter writer(PosixFileSystem(), run + "/checkpoints", world, /*keep=*/5);
      for (const int64_t step : steps) {
        const Range mine = BlockOf(100, ranks, world.rank());
        ASSERT_TRUE(writer
                        .Begin({.step = step, .config_text = "model { layers: 3 }", .labels = {{"isa", "test"}}},
                               {{"model.norm.weight", DType::kF32, {4, 25}, mine, values.data() + mine.begin}})
                        .ok());
        ASSERT_TRUE(writer.Finish().ok());
      }
    });
    return run;
  }

  std::string root_;
};

TEST_F(InspectCheckpoint, ShowsTheNewestCheckpointOfARun) {
  const std::string run = MakeRun("a", 2, {3, 7});
  const ProcessResult result = Inspect({run});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("step              7\n"));
  EXPECT_THAT(result.out, HasSubstr("tensors           1, 400 B in 2 files\n"));
  EXPECT_THAT(result.out, HasSubstr("isa               test\n"));
  EXPECT_THAT(result.out, HasSubstr("checkpoints       of steps 3, 7\n"));
  EXPECT_THAT(result.out, testing::Not(HasSubstr("model.norm.weight")));
  const ProcessResult older = Inspect({run + "/checkpoints/step-00000003"});
  EXPECT_THAT(older.out, HasSubstr("step              3\n"));
}

TEST_F(InspectCheckpoint, JsonHoldsTheSame) {
  const ProcessResult result = Inspect({MakeRun("a", 1, {7}), "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << result.out << result.err;
  EXPECT_EQ(json["checkpoint"]["step"], 7);
  EXPECT_EQ(json["config"]["model"]["layers"], 3);
  EXPECT_EQ(json["run"]["checkpoints"], nlohmann::json({7}));
}

TEST_F(InspectCheckpoint, TensorsAreShownOnRequest) {
  const std::string run = MakeRun("a", 1, {7});
  const ProcessResult text = Inspect({run, "--tensors"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, StartsWith("tensor "));
  EXPECT_THAT(text.out, testing::ContainsRegex("model.norm.weight +F32 +\\[4, 25\\] +400\n"));
  const auto json = nlohmann::json::parse(Inspect({run, "--tensors", "--json"}).out, nullptr, false);
  EXPECT_EQ(json["tensors"][0]["shape"], nlohmann::json({4, 25}));
}

// The newest losses up to the checkpoint's step; lines that are no metrics are counted, not stumbled over.
TEST_F(InspectCheckpoint, TellsTheLossesOfTheRun) {
  const std::string run = MakeRun("a", 1, {3, 7});
  std::ofstream(run + "/metrics.jsonl") << "{\"step\":0,\"validation/loss\":5.5}\n{\"step\":2,\"loss/main\":4.25}\nbroken\n"
                                        << "{\"step\":7,\"loss/main\":3.5}\n{\"step\":8,\"loss/main\":9.5}\n";
  const ProcessResult newest = Inspect({run});
  EXPECT_EQ(newest.exit_code, 0) << newest.err;
  EXPECT_THAT(newest.out, HasSubstr("loss              3.5000 nats per token, of step 7\n"));
  EXPECT_THAT(newest.out, HasSubstr("validation loss   5.5000 nats per token, of step 0\n"));
  EXPECT_THAT(newest.out, HasSubstr("1 lines of metrics.jsonl are no metrics"));
  EXPECT_THAT(Inspect({run + "/checkpoints/step-00000003"}).out,
              HasSubstr("loss              4.2500 nats per token, of step 2\n"));
}

TEST_F(InspectCheckpoint, TheConfigOfTheRunIsShownOnRequest) {
  const ProcessResult result = Inspect({MakeRun("a", 1, {7}), "--print-config"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("layers: 3\n"));
}

TEST_F(InspectCheckpoint, LayoutsOfOneStateHaveOneHashAndAreIdentical) {
  const std::string a = MakeRun("a", 1, {7}), b = MakeRun("b", 3, {7});
  const ProcessResult hash = Inspect({a, "--hash"});
  EXPECT_THAT(hash.out, ::testing::MatchesRegex("[0-9a-f]+\n"));
  EXPECT_EQ(hash.out, Inspect({b, "--hash"}).out);
  const ProcessResult difference = Inspect({a, "--diff", b});
  EXPECT_EQ(difference.exit_code, 0) << difference.err;
  EXPECT_EQ(difference.out, "identical\n");
}

TEST_F(InspectCheckpoint, TheFirstDifferenceIsNamedAndIsAFailure) {
  const std::string a = MakeRun("a", 2, {7}), b = MakeRun("b", 2, {7}, /*first=*/0.5f);
  const ProcessResult difference = Inspect({a, "--diff", b});
  EXPECT_EQ(difference.exit_code, 1);
  EXPECT_THAT(difference.out, HasSubstr("model.norm.weight"));
  EXPECT_NE(Inspect({a, "--hash"}).out, Inspect({b, "--hash"}).out);
}

TEST_F(InspectCheckpoint, DamageIsRefusedAndTheNewestGoodOneOffered) {
  const std::string run = MakeRun("a", 1, {3, 7});
  fs::resize_file(run + "/checkpoints/step-00000007/manifest.pb", 20);
  const ProcessResult result = Inspect({run});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("error: "));
  EXPECT_THAT(result.err, HasSubstr("step-00000007"));
  EXPECT_THAT(result.err, HasSubstr("step-00000003"));
}

TEST_F(InspectCheckpoint, VerifyReadsTheTensors) {
  const std::string run = MakeRun("a", 1, {7});
  EXPECT_EQ(Inspect({run, "--verify"}).exit_code, 0);
  const std::string data = run + "/checkpoints/step-00000007/rank-00000.bin";
  std::fstream(data, std::ios::in | std::ios::out | std::ios::binary).seekp(200).put('x');
  EXPECT_EQ(Inspect({run}).exit_code, 0);
  const ProcessResult result = Inspect({run, "--verify"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("rank-00000.bin"));
}

TEST_F(InspectCheckpoint, WhatIsNoCheckpointIsNamed) {
  const ProcessResult missing = Inspect({root_ + "/no_such_run"});
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.err, HasSubstr("no_such_run: no such folder"));
  fs::create_directories(root_ + "/empty/checkpoints");
  const ProcessResult empty = Inspect({root_ + "/empty"});
  EXPECT_EQ(empty.exit_code, 3);
  EXPECT_THAT(empty.err, HasSubstr("no checkpoint has been committed here yet"));
}

}  // namespace
}  // namespace jevons
