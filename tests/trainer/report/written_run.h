// The files of a run that never was, for tests of what reads them.
#ifndef JEVONS_TESTS_TRAINER_REPORT_WRITTEN_RUN_H_
#define JEVONS_TESTS_TRAINER_REPORT_WRITTEN_RUN_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "configs/load.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/metrics/run_files.h"
#include "trainer/report/run_history.h"

namespace jevons {

// Tokens, seconds and device seconds grow by one step's with each step; the price is $1800 for a device's hour, half a dollar a second.
inline constexpr double kStepTokens = 100, kStepSeconds = 2, kDevices = 4, kPricePerSecond = 0.5;

inline MetricsRecord StepOfRun(int64_t step, double loss, double lost_seconds = 0) {
  const double steps = static_cast<double>(step), seconds = kStepSeconds * steps + lost_seconds;
  return {.step = step,
          .wall_time = 1e9 + seconds,
          .values = {{"loss/main", loss},
                     {"gradient_norm", 1 / steps},
                     {"learning_rate", 1e-3},
                     {"tokens", kStepTokens * steps},
                     {"tokens_per_second", kStepTokens / kStepSeconds},
                     {"mfu", 0.25},
                     {"load/max_over_mean", 1 + 1 / steps},
                     {"load/dead_experts", 1},
                     {"cost/seconds", seconds},
                     {"cost/device_seconds", seconds * kDevices},
                     {"cost/lost_device_seconds", lost_seconds * kDevices},
                     {"cost/dollars", seconds * kDevices * kPricePerSecond},
                     {"seconds/forward", 1.2},
                     {"seconds/backward", 0.8}}};
}

inline MetricsRecord ValidationOfRun(int64_t step, double loss) {
  const double steps = static_cast<double>(step), seconds = kStepSeconds * steps;
  return {.step = step,
          .wall_time = 1e9 + seconds,
          .values = {{"validation/loss", loss},
                     {"tokens", kStepTokens * steps},
                     {"cost/seconds", seconds},
                     {"cost/device_seconds", seconds * kDevices},
                     {"cost/dollars", seconds * kDevices * kPricePerSecond}}};
}

class WrittenRun {
 public:
  WrittenRun(const TempFolder& folder, const std::string& name, const std::vector<std::string>& overrides = {})
      : path_(folder / name) {
    std::filesystem::create_directories(path_);
    std::vector<std::string> all = {"model.vocab_size=512"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    const auto config = LoadRunConfig(SourcePath("configs/presets/quickstart_cpu.textproto"), all);
    EXPECT_TRUE(config.ok()) << config.status();
    std::ofstream(path_ + "/config.textproto") << ResolvedText(*config);
  }
  const std::string& path() const { return path_; }
  void Add(const MetricsRecord& record) { AddLine("metrics.jsonl", ToJsonLine(record)); }
  void AddLine(const std::string& file, const std::string& line) { std::ofstream(path_ + "/" + file, std::ios::app) << line; }
  RunHistory Read() const {
    auto run = ReadRunHistory(path_);
    EXPECT_TRUE(run.ok()) << run.status();
    return *std::move(run);
  }

 private:
  std::string path_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_TRAINER_REPORT_WRITTEN_RUN_H_
