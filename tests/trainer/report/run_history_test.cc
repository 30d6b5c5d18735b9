#include "trainer/report/run_history.h"

#include <gmock/gmock.h>

#include "tests/trainer/report/written_run.h"
#include "trainer/spec/flops.h"

namespace jevons {
namespace {

using testing::HasSubstr;

TEST(RunHistory, CountsEachStepOnceAsTheLastProcessMadeIt) {
  const TempFolder folder;
  WrittenRun written(folder, "run");
  written.Add(ValidationOfRun(0, 9));
  for (int step = 1; step <= 6; ++step) {
    written.Add(StepOfRun(step, 8));
    if (step % 2 == 0) written.Add(ValidationOfRun(step, 8));
  }
  // A process that goes on after step 3: 6 seconds of 4 devices are lost.
  for (int step = 4; step <= 5; ++step) written.Add(StepOfRun(step, 7, 6));
  written.Add(ValidationOfRun(5, 7));
  const RunHistory run = written.Read();
  std::vector<int64_t> steps, validated;
  for (const MetricsRecord& record : run.steps) steps.push_back(record.step);
  for (const MetricsRecord& record : run.validations) validated.push_back(record.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(validated, (std::vector<int64_t>{0, 2, 5}));
  EXPECT_EQ(run.steps[3].Value("loss/main"), 7);
  EXPECT_EQ(run.Last("tokens"), 500);
  EXPECT_EQ(run.Last("cost/seconds"), 16);  // 5 steps of 2 s, and 6 s
  EXPECT_EQ(run.Last("cost/dollars"), 32);
  EXPECT_EQ(run.Last("nothing"), std::nullopt);
}

TEST(RunHistory, PlacesRecordsOnEveryAxis) {
  const TempFolder folder;
  WrittenRun written(folder, "run",
                     {"cost.peak_tflops=2", "cost.reference_mfu=0.5", "cost.price_per_device_hour=1800", "model.mtp.depth=1"});
  written.Add(StepOfRun(10, 5, 5));
  const RunHistory run = written.Read();
  const FlopCount flops = CountFlops(run.config.model(), run.config.data().sequence_length(), CoreCount::kCausal);
  EXPECT_GT(run.mtp_flops_per_token, 0);
  const auto place = [&](Axis axis, Price price = {}) { return PlaceOf(run, run.steps[0], axis, price).value(); };
  EXPECT_EQ(place(Axis::kTokens), 1000);
  EXPECT_DOUBLE_EQ(place(Axis::kFlops), 1000 * flops.training());
  EXPECT_EQ(place(Axis::kSeconds), 25);
  EXPECT_EQ(place(Axis::kDollars), 50);
  EXPECT_DOUBLE_EQ(place(Axis::kDollars, 36.0), 25 * 4 * 0.01);
  EXPECT_DOUBLE_EQ(place(Axis::kReference), 1000 * flops.training() / 1e12 * 0.5);  // at $0.5 a second
  EXPECT_DOUBLE_EQ(place(Axis::kReference, 36.0), 1000 * flops.training() / 1e12 * 0.01);
}

TEST(RunHistory, ARunIsCalledAsItsFolderHoweverThatIsWritten) {
  RunConfig config;
  EXPECT_EQ(RunName(config, "runs/a"), "a");
  EXPECT_EQ(RunName(config, "runs/a/"), "a");
  EXPECT_EQ(RunName(config, "runs/a/."), "a");
  EXPECT_EQ(RunName(config, "."), std::filesystem::current_path().filename());
  config.mutable_run()->set_name("named");
  EXPECT_EQ(RunName(config, "runs/a"), "named");
}

TEST(RunHistory, WhatIsNotAsTrainWroteItIsDamaged) {
  const TempFolder folder;
  WrittenRun written(folder, "run");
  written.Add(StepOfRun(1, 5));
  for (const std::string text : {"", "model { layer: 3 }", "\xf6\x01", "train { batch_sequences: 0 }"}) {
    std::ofstream(written.path() + "/config.textproto") << text;
    const absl::Status status = ReadRunHistory(written.path()).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << text;
    EXPECT_THAT(std::string(status.message()),
                ::testing::StartsWith(written.path() + "/config.textproto: it is not as train wrote it: "));
  }
}

// A step of this config has 2048 tokens, so the stage begins with the second one.
TEST(RunHistory, CountsEachStagesFlops) {
  const TempFolder folder;
  WrittenRun written(folder, "run",
                     {"cost.peak_tflops=2", "cost.reference_mfu=0.5", "cost.price_per_device_hour=3600",
                      "train.stage[0].from_tokens=600", "train.stage[0].sequence_length=128"});
  written.Add(StepOfRun(4, 5));
  written.Add(StepOfRun(40, 5));
  const RunHistory run = written.Read();
  const auto flops = [&](int64_t sequence) { return CountFlops(run.config.model(), sequence, CoreCount::kCausal).training(); };
  const double all = 2048 * flops(256) + (4000 - 2048) * flops(128);
  EXPECT_DOUBLE_EQ(PlaceOf(run, run.steps[0], Axis::kFlops, {}).value(), 400 * flops(256));
  EXPECT_DOUBLE_EQ(PlaceOf(run, run.steps[1], Axis::kFlops, {}).value(), all);
  EXPECT_DOUBLE_EQ(PlaceOf(run, run.steps[1], Axis::kReference, {}).value(), all / 1e12);
}

TEST(RunHistory, WithoutAPriceThereAreNoDollars) {
  const TempFolder folder;
  WrittenRun written(folder, "run");
  MetricsRecord record = StepOfRun(1, 5);
  std::erase_if(record.values, [](const auto& value) { return value.first == "cost/dollars"; });
  written.Add(record);
  const RunHistory run = written.Read();
  EXPECT_FALSE(PlaceOf(run, run.steps[0], Axis::kDollars, {}));
  EXPECT_FALSE(PlaceOf(run, run.steps[0], Axis::kReference, 1.0)) << "no reference is stated";
  EXPECT_EQ(PlaceOf(run, run.steps[0], Axis::kDollars, 3600.0), 8);
}

TEST(RunHistory, ReadsStartsAndExpertsAndWhatTheRunIsCalled) {
  const TempFolder folder;
  WrittenRun written(folder, "folder", {"run.tags=dense, seed 1"});
  written.Add(StepOfRun(1, 5));
  written.AddLine("metrics.jsonl", "{\"step\": torn\n");
  const RunStart start{.time = 5,
                       .step = 3,
                       .ranks = 4,
                       .devices = 2,
                       .device = "H800",
                       .price_per_device_hour = 2,
                       .peak_flops = 1e15,
                       .host = "a",
                       .peak_source = "x",
                       .labels = {{"version", "1"}},
                       .lost_steps = 2,
                       .lost = {.seconds = 1, .device_seconds = 2, .dollars = 3}};
  written.AddLine("starts.jsonl", ToStartLine(start) + "nothing\n");
  written.AddLine("experts.jsonl", ToExpertsLine({.step = 1, .layers = {{1, 2, 3}, {4, 5, 6}}}) +
                                       ToExpertsLine({.step = 9, .layers = {{1}, {2}}}));
  const RunHistory run = written.Read();
  EXPECT_EQ(run.name, "folder");
  EXPECT_EQ(run.unreadable, 1);
  EXPECT_EQ(run.device(), "H800");
  ASSERT_EQ(run.starts.size(), 1u);
  EXPECT_EQ(ToStartLine(run.starts[0]), ToStartLine(start));
  EXPECT_EQ(run.starts[0].lost.dollars, 3);
  ASSERT_EQ(run.experts.size(), 1u) << "step 9 was lost";
  EXPECT_EQ(run.experts[0].layers[1], (std::vector<int64_t>{4, 5, 6}));
  EXPECT_EQ(WrittenRun(folder, "other", {"run.name=dense"}).path(), folder / "other");
}

TEST(RunHistory, WhatIsNoRunIsRefused) {
  const TempFolder folder;
  const auto refusal = [](const std::string& path) {
    const auto run = ReadRunHistory(path);
    EXPECT_EQ(ExitCodeOf(run.status()), ExitCode::kIntegrity);
    return std::string(run.status().message());
  };
  EXPECT_THAT(refusal(folder / "none"), HasSubstr("none/metrics.jsonl: cannot be read"));
  WrittenRun written(folder, "run");
  written.Add(ValidationOfRun(0, 9));
  EXPECT_THAT(refusal(written.path()), HasSubstr("no step is recorded"));
  written.Add(StepOfRun(1, 5));
  std::filesystem::remove(written.path() + "/config.textproto");
  EXPECT_THAT(refusal(written.path()), HasSubstr("config.textproto: there is none"));
}

// The first 127 steps are all there; then some 64 for each doubling.
TEST(RunHistory, ExpertsAreRecordedOftenAtFirst) {
  int64_t until_128 = 0, later = 0;
  for (int64_t step = 1; step < 128; ++step) until_128 += ExpertLoadsDue(step);
  for (int64_t step = 4096; step < 8192; ++step) later += ExpertLoadsDue(step);
  EXPECT_EQ(until_128, 127);
  EXPECT_EQ(later, 64);
}

}  // namespace
}  // namespace jevons
