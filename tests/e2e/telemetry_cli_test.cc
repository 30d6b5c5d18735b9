// What other programs show of a run, TensorBoard and Prometheus, while it is killed and goes on: the same as its metrics.jsonl.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/tensorboard_view.h"
#include "tests/support/train_cli.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/metrics/run_files.h"

namespace jevons {
namespace {

class Telemetry : public TrainCli {
 protected:
  static std::vector<MetricsRecord> Records(const std::string& run) {
    std::ifstream file(folder_ / run / "metrics.jsonl");
    std::vector<MetricsRecord> records;
    for (std::string line; std::getline(file, line);)
      if (auto record = FromJsonLine(line)) records.push_back(*std::move(record));  // the last may be torn
    return records;
  }
  static std::vector<RunStart> Starts(const std::string& run) {
    std::ifstream file(folder_ / run / kStartsFile);
    std::vector<RunStart> starts;
    for (std::string line; std::getline(file, line);) starts.push_back(FromStartLine(line).value());
    return starts;
  }
  // Goes on with the run, and kill -9 of all ranks once it has recorded steps that it had not recorded before.
  static void Kill(const std::string& run, const std::vector<std::string>& overrides) {
    const auto before = static_cast<int>(Records(run).back().step);
    Process process = StartLongRun(run, before + 3, Command(2, 2, run, overrides));
    const std::vector<pid_t> ranks = ChildrenOf(process.pid());
    EXPECT_EQ(ranks.size(), 2u);
    for (const pid_t rank : ranks) kill(rank, SIGKILL);
    EXPECT_NE(process.Wait(kTimeout).exit_code, 0);
  }
};

// A run whose checkpoint of step 4 is the last for long, killed at step 7 or later, once more at 10 or later, and then completed.
TEST_F(Telemetry, TensorBoardShowsEachStepOnceAfterKills) {
  const std::vector<std::string> rare = {"checkpoint.interval=100000", "train.eval_interval=3"};
  ASSERT_EQ(Train(2, 2, "shown", {"train.steps=4", "train.eval_interval=3"}).exit_code, 0);
  Kill("shown", rare);
  Kill("shown", rare);
  ASSERT_EQ(Train(2, 2, "shown", rare).exit_code, 0);
  const std::vector<RunStart> starts = Starts("shown");
  ASSERT_EQ(starts.size(), 4u);
  EXPECT_GE(starts[2].lost_steps, 3);
  EXPECT_GE(starts[3].lost_steps, 6);

  const TensorBoardView view(folder_ / "shown/tensorboard");
  EXPECT_EQ(view.starts(), 4);
  EXPECT_GT(view.taken_away(), 0);
  // Of each name what metrics.jsonl has first of a step: a validation's record repeats some of its step's.
  std::map<std::string, std::vector<ShownPoint>> recorded;
  for (const MetricsRecord& record : Records("shown"))
    for (const auto& [name, value] : record.values)
      if (auto& points = recorded[name]; points.empty() || points.back().step < record.step)
        points.push_back({record.step, static_cast<float>(value)});
  const std::vector<ShownPoint>& loss = view.points().at("loss/main");
  ASSERT_EQ(loss.size(), 12u);
  for (size_t i = 0; i < loss.size(); ++i) EXPECT_EQ(loss[i].step, static_cast<int64_t>(i) + 1);
  ASSERT_EQ(view.points().size(), recorded.size());
  for (const auto& [name, points] : recorded) {
    const std::vector<ShownPoint>& shown = view.points().at(name);
    ASSERT_EQ(shown.size(), points.size()) << name;
    for (size_t i = 0; i < points.size(); ++i) {
      EXPECT_EQ(shown[i].step, points[i].step) << name;
      EXPECT_EQ(shown[i].value, points[i].value) << name << " of step " << points[i].step;
    }
  }
}

// A start that dies before its first step has cut what the one before it recorded: what that had lost, the next one pays for all the same.
TEST_F(Telemetry, WhatWasLostIsNotForgottenWhereTheNextStartFails) {
  const std::vector<std::string> rare = {"checkpoint.interval=100000", "train.eval_interval=0"};
  ASSERT_EQ(Train(2, 2, "lost", {"train.steps=4", "train.eval_interval=0"}).exit_code, 0);
  Kill("lost", rare);
  std::vector<std::string> failing = rare;
  failing.push_back("log.prometheus=" + (folder_ / "none/jevons.prom").string());
  for (int time = 0; time < 2; ++time) EXPECT_EQ(Train(2, 2, "lost", failing).exit_code, 1);
  ASSERT_EQ(Train(2, 2, "lost", rare).exit_code, 0);
  const std::vector<RunStart> starts = Starts("lost");
  ASSERT_EQ(starts.size(), 5u);
  EXPECT_GE(starts[2].lost_steps, 3);
  EXPECT_GT(starts[2].lost.device_seconds, 0);
  for (const RunStart& later : {starts[3], starts[4]}) {
    EXPECT_EQ(later.lost_steps, 0);
    EXPECT_EQ(later.lost.device_seconds, 0);
  }
  double lost = 0;  // of the last step: a validation's record does not say
  for (const MetricsRecord& record : Records("lost")) lost = record.Value("cost/lost_device_seconds").value_or(lost);
  EXPECT_DOUBLE_EQ(lost, starts[2].lost.device_seconds);
  std::ostringstream summary;
  summary << std::ifstream(folder_ / "lost/summary.json").rdbuf();
  EXPECT_THAT(summary.str(), ::testing::HasSubstr("\"restarts\": 4"));
}

// What node_exporter's collector finds: the last values, under the run's folder's name. A folder that is not there is told before the first step.
TEST_F(Telemetry, PrometheusSeesTheNewestStep) {
  const std::string path = folder_ / "jevons.prom";
  ASSERT_EQ(Train(2, 2, "scraped", {"train.steps=4", "train.eval_interval=3", "log.prometheus=" + path}).exit_code, 0);
  std::map<std::string, double> shown;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("# TYPE ")) continue;
    const size_t label = line.find("{run=\"scraped\"} ");
    ASSERT_NE(label, std::string::npos) << line;
    shown[line.substr(0, label)] = std::stod(line.substr(line.find("} ") + 2));
  }
  const std::vector<MetricsRecord> records = Records("scraped");
  std::map<std::string, double> recorded = {{"jevons_step", 4}, {"jevons_time_seconds", records.back().wall_time}};
  for (const MetricsRecord& record : records)
    for (const auto& [name, value] : record.values) {
      std::string key = "jevons_" + name;
      std::replace(key.begin(), key.end(), '/', '_');
      recorded[key] = value;
    }
  EXPECT_EQ(shown, recorded);

  const ProcessResult none =
      Train(1, 1, "unseen", {"train.steps=4", "log.prometheus=" + (folder_ / "none/jevons.prom").string()});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, ::testing::HasSubstr("error: log.prometheus: "));
  const ProcessResult name = Train(1, 1, "unseen", {"train.steps=4", "log.prometheus=jevons.txt"});
  EXPECT_EQ(name.exit_code, 2);
  EXPECT_THAT(name.err, ::testing::HasSubstr("log.prometheus = jevons.txt: must be a file's name that ends in .prom"));
}

}  // namespace
}  // namespace jevons
