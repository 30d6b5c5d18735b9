// Random damage to a good config: it never crashes, never takes long, and either still validates or is
// refused by name.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "configs/nearest.h"
#include "configs/validate.h"
#include "kernels/base/status.h"
#include "tests/configs/presets.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

const int kTrials = static_cast<int>(Trials(3000));
const char* const kPresets[] = {"quickstart_cpu", "small_cpu", "deepseek_v2_lite_16b", "deepseek_v3_671b"};

// A text that mostly parses: numbers at and around every boundary, and things that are none.
std::string RandomValue(std::mt19937_64& random) {
  static const char* const kValues[] = {"0",
                                        "1",
                                        "-1",
                                        "2",
                                        "3",
                                        "7",
                                        "64",
                                        "65536",
                                        "2147483648",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "1e18",
                                        "1e-300",
                                        "nan",
                                        "inf",
                                        "-inf",
                                        "0.5",
                                        "true",
                                        "false",
                                        "BF16",
                                        "CUDA",
                                        "x",
                                        "",
                                        "{}",
                                        "[]",
                                        "{tokens: 1 value: 2}",
                                        "{prefix: 'a'}",
                                        "-0"};
  if (random() % 3 == 0) return std::to_string(static_cast<int64_t>(random()) >> (random() % 63));
  return kValues[random() % std::size(kValues)];
}

TEST(Mutation, OverriddenFieldsValidateOrAreRefusedByName) {
  std::mt19937_64 random(1);
  const std::vector<std::string> paths = FieldPaths(*RunConfig::descriptor());
  int valid = 0, refused = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    RunConfig config = Preset(kPresets[trial % 4]);
    std::vector<std::string> overrides;
    for (uint64_t n = 1 + random() % 3; n > 0; --n) {
      overrides.push_back(paths[random() % paths.size()] + "=" + RandomValue(random));
    }
    const absl::StatusOr<RunConfig> mutated = ParseRunConfig(ResolvedText(config), "config", overrides);
    const absl::Status status = mutated.ok() ? ValidationStatus(*mutated, 1 + random() % 64) : mutated.status();
    if (status.ok()) {
      ++valid;
      continue;
    }
    ++refused;
    ASSERT_EQ(ExitCodeOf(status), ExitCode::kUsage);
    const bool named = std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
      return status.message().find(path.substr(path.rfind('.') + 1)) != absl::string_view::npos;
    });
    EXPECT_TRUE(named) << status;
  }
  EXPECT_GT(valid, kTrials / 50);  // the trials reach both sides
  EXPECT_GT(refused, kTrials / 50);
  ReportTrials("configs", kTrials, "1", "configs with random fields: refused by name, or valid");
}

TEST(Mutation, DamagedTextIsReadOrRefusedWithItsPlace) {
  std::mt19937_64 random(2);
  const std::string text = ResolvedText(Preset("deepseek_v3_671b"));
  for (int trial = 0; trial < kTrials; ++trial) {
    std::string damaged = text;
    const size_t at = random() % damaged.size();
    switch (random() % 4) {
      case 0: damaged[at] = static_cast<char>(random()); break;
      case 1: damaged.erase(at, random() % 20); break;
      case 2: damaged.insert(at, damaged.substr(random() % damaged.size(), random() % 20)); break;
      case 3: damaged.resize(at); break;
    }
    const absl::StatusOr<RunConfig> config = ParseRunConfig(damaged, "config", {});
    if (config.ok()) {
      Validate(*config, 2048);
    } else {
      ASSERT_EQ(ExitCodeOf(config.status()), ExitCode::kUsage);
      EXPECT_EQ(config.status().message().find("config:"), 0u) << config.status();
    }
  }
  ReportTrials("configs", kTrials, "2", "damaged texts: refused with their place, or read");
}

}  // namespace
}  // namespace jevons
