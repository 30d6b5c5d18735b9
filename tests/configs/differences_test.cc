#include "configs/differences.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/configs/presets.h"

namespace jevons {
namespace {

// What an entry of a list does not set is not different: elsewhere it is said.
TEST(Differences, AStageDiffersInWhatItSets) {
  const RunConfig plain = Preset("quickstart_cpu"), rates = Preset("quickstart_cpu", {"optimizer.learning_rate.peak=0.5"}),
                  staged = Preset("quickstart_cpu", {"train.stage[0].from_step=5", "train.stage[0].sequence_length=512"}),
                  longer = Preset("quickstart_cpu", {"train.stage[0].from_step=5", "train.stage[0].sequence_length=512",
                                                     "train.stage[0].yarn.factor=4"});
  const auto paths = [](const RunConfig& a, const RunConfig& b) {
    std::vector<std::string> paths;
    for (const FieldValues& field : DifferingFields(std::vector<RunConfig>{a, b})) paths.push_back(field.path);
    return paths;
  };
  using Paths = std::vector<std::string>;
  EXPECT_EQ(paths(plain, plain), Paths());
  EXPECT_EQ(paths(plain, rates), Paths{"optimizer.learning_rate.peak"});
  EXPECT_EQ(paths(plain, staged), (Paths{"train.stage[0].from_step", "train.stage[0].sequence_length"}));
  const Paths yarn = paths(staged, longer);
  EXPECT_EQ(std::count(yarn.begin(), yarn.end(), "train.stage[0].yarn.factor"), 1);
  EXPECT_EQ(std::count(yarn.begin(), yarn.end(), "train.stage[0].learning_rate.peak"), 0);
}

}  // namespace
}  // namespace jevons
