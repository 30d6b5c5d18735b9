// Every parser with the inputs of tests/fuzz/corpus: good ones, and all that ever went wrong. And with what a disk makes of them: cut
// short, and with a bit that has flipped.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "kernels/base/philox.h"
#include "tests/fuzz/targets.h"
#include "tests/support/paths.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

std::vector<const FuzzTarget*> AllTargets() {
  std::vector<const FuzzTarget*> all;
  for (const auto targets : {CheckpointTargets(), DataTargets(), ConfigTargets(), JobTargets()})
    for (const FuzzTarget& target : targets) all.push_back(&target);
  return all;
}

std::vector<std::string> Inputs(const std::string& target) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(SourcePath("tests/fuzz/corpus/" + target))) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> inputs;
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

class Corpus : public testing::TestWithParam<const FuzzTarget*> {};

TEST_P(Corpus, SomeAreTakenAndSomeRefused) {
  std::set<bool> outcomes;
  for (const std::string& input : Inputs(GetParam()->name)) outcomes.insert(GetParam()->run(input));
  EXPECT_EQ(outcomes.size(), 2u) << "the corpus does not tell good input from bad";
}

TEST_P(Corpus, DamagedOnesDoNoHarm) {
  constexpr uint64_t kCuts = 16;
  const auto flips = static_cast<uint64_t>(Trials(64));
  uint64_t number = 0;
  for (const std::string& input : Inputs(GetParam()->name)) {
    if (input.empty()) continue;
    for (uint64_t i = 0; i < kCuts; ++i) GetParam()->run(input.substr(0, RandomBits(1, 0, ++number) % input.size()));
    for (uint64_t i = 0; i < flips; ++i) {
      std::string flipped = input;
      const uint64_t bit = RandomBits(1, 1, ++number) % (8 * input.size());
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
      GetParam()->run(flipped);
    }
  }
  ReportTrials("hostile", static_cast<int64_t>(number), "1", "inputs cut short or with a bit turned");
}

INSTANTIATE_TEST_SUITE_P(Parsers, Corpus, testing::ValuesIn(AllTargets()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(Corpora, EachHasItsTarget) {
  for (const auto& entry : fs::directory_iterator(SourcePath("tests/fuzz/corpus")))
    EXPECT_NE(FindTarget(entry.path().filename()), nullptr) << entry.path();
}

}  // namespace
}  // namespace jevons
