// Pipelines as a user meets them: what is refused, and how; what is shown of a step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/train_cli.h"

namespace jevons {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class PipelineCli : public TrainCli {};

// One line that names the field, its value and the remedy; the run that is there already stays as it was.
TEST_F(PipelineCli, RefusesWhatDoesNotFit) {
  struct Refusal {
    int ranks;
    std::vector<std::string> overrides;
    std::string begin, remedy;
  };
  const std::string dualpipe = "parallel.schedule=DUALPIPE", interleaved = "parallel.schedule=INTERLEAVED";
  const std::vector<Refusal> refusals = {
      {4,
       {"parallel.pp=4", dualpipe},
       "train.batch_sequences = 6: brings 6 micro-batches to each of 1 pipelines",
       "nearest legal: 8"},
      {2,
       {"parallel.pp=2", interleaved, "parallel.virtual_stages=2", "train.batch_sequences=7"},
       "train.batch_sequences = 7: ",
       "nearest legal: 8"},
      {4, {"parallel.pp=3"}, "parallel.pp = 3: must divide the 4 ranks", "nearest legal: 4"},
      {4, {"parallel.pp=2", "parallel.ep=4"}, "parallel.ep = 4: must divide the 2 ranks of a stage", "nearest legal: 2"},
      {3,
       {"parallel.pp=3", dualpipe},
       "parallel.pp = 3: schedule DUALPIPE pairs each rank",
       "nearest legal: none for 3 ranks, but parallel.schedule = DUALPIPEV"},
      {2, {"parallel.stages=3|1"}, "parallel.stages = \"3|1\": ", "1"},
      {2, {"parallel.pp=2", "parallel.stages=1|1"}, "parallel.stages = \"1|1\": that is 2 layers", "such as \"3|1\""},
      {2, {"parallel.pp=2", "parallel.virtual_stages=2"}, "parallel.virtual_stages = 2: schedule 1f1b", "nearest: 1"},
  };
  const ProcessResult kept = Train(1, 1, "kept", {"train.steps=1", "parallel.schedule=ZB_H1"});
  ASSERT_EQ(kept.exit_code, 0);
  EXPECT_THAT(kept.err, HasSubstr("parallel.schedule = ZB_H1 is for pipelines"));
  const auto content = [] {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "kept"))
      files.push_back(absl::StrCat(entry.path().string(), " ", fs::last_write_time(entry).time_since_epoch().count()));
    std::sort(files.begin(), files.end());
    return files;
  };
  const std::vector<std::string> before = content();
  for (const Refusal& refusal : refusals) {
    const bool anew = &refusal == &refusals.front();
    const ProcessResult result = Train(refusal.ranks, 1, anew ? "refused" : "kept", refusal.overrides);
    EXPECT_EQ(result.exit_code, 2) << refusal.begin;
    EXPECT_THAT(result.err, StartsWith("error: " + refusal.begin));
    EXPECT_THAT(result.err, HasSubstr(refusal.remedy));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_FALSE(fs::exists(folder_ / "refused"));
  EXPECT_EQ(content(), before);
}

// The last step of a run, and of a bench.
TEST_F(PipelineCli, TraceShowsEveryRankBesideTheSimulation) {
  const auto check = [](const ProcessResult& result, const fs::path& path) {
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(
        result.out,
        ContainsRegex("last step's schedule predicted [0-9.]+ s from its mean durations, measured [0-9.]+ s, error [-+0-9.]+%"));
    EXPECT_THAT(
        result.out,
        ContainsRegex("rank 3 +busy [0-9.]+ s, waiting [0-9.]+ s, predicted [0-9.]+ s, measured [0-9.]+ s, error [-+0-9.]+%"));
    std::ifstream file(path);
    const auto trace = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
    ASSERT_TRUE(trace.is_object());
    std::map<std::string, std::vector<int>> ranks;  // by action and process
    for (const auto& event : trace["traceEvents"])
      if (event["ph"] == "X")
        ranks[absl::StrCat(event["name"].get<std::string>(), event["pid"].get<int>() == 0 ? "" : " simulated")].push_back(
            event["tid"]);
    // Two pipelines of two ranks, 3 micro-batches each; the first two ranks of the world have stage 0.
    EXPECT_THAT(ranks["0F0"], testing::ElementsAre(0, 1));
    EXPECT_THAT(ranks["1I2"], testing::ElementsAre(2, 3));
    EXPECT_THAT(ranks["1W2"], testing::ElementsAre(2, 3));
    EXPECT_THAT(ranks["0SF1"], testing::ElementsAre(0, 1));
    EXPECT_THAT(ranks["1W2 simulated"], testing::ElementsAre(1));
    // Four ranks, then what each of them reduces.
    EXPECT_THAT(ranks["0G0"], testing::ElementsAre(4, 5));
    EXPECT_THAT(ranks["1G0"], testing::ElementsAre(6, 7));
    EXPECT_THAT(ranks["1G0 simulated"], testing::ElementsAre(3));
    EXPECT_EQ(ranks.count("0F3") + ranks.count("0SF1 simulated"), 0u);
  };
  std::vector<std::string> train = Command(4, 1, "traced", {"parallel.pp=2", "parallel.schedule=ZB_H1", "train.steps=2"});
  std::vector<std::string> bench = train;
  train.insert(train.end(), {"--trace", folder_ / "train.json"});
  check(RunProcess(train, kTimeout), folder_ / "train.json");
  const auto output = std::find(bench.begin(), bench.end(), "--output");
  bench.erase(output, output + 2);
  *std::find(bench.begin(), bench.end(), "train") = "step";
  bench.insert(std::find(bench.begin(), bench.end(), "step"), "bench");
  bench.insert(bench.end(), {"--set", "model.vocab_size=300", "--steps", "1", "--trace", folder_ / "bench.json"});
  check(RunProcess(bench, kTimeout), folder_ / "bench.json");
}

}  // namespace
}  // namespace jevons
