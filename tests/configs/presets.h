// The configs that tests start from.
#ifndef JEVONS_TESTS_CONFIGS_PRESETS_H_
#define JEVONS_TESTS_CONFIGS_PRESETS_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "configs/load.h"
#include "tests/support/paths.h"

namespace jevons {

inline std::string PresetPath(const std::string& name) { return SourcePath("configs/presets/" + name + ".textproto"); }

// The preset with overrides; a failure of the test and an empty config when it does not load.
inline RunConfig Preset(const std::string& name, const std::vector<std::string>& overrides = {}) {
  absl::StatusOr<RunConfig> config = LoadRunConfig(PresetPath(name), overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : RunConfig();
}

}  // namespace jevons

#endif  // JEVONS_TESTS_CONFIGS_PRESETS_H_
