// Pipelines as a user meets them: what is refused, and how.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/train_cli.h"

namespace jevons {
namespace {

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
      {4, {"parallel.pp=4", dualpipe}, "train.batch_sequences = 6: brings 6 micro-batches to each of 1 pipelines", "nearest legal: 8"},
      {2, {"parallel.pp=2", interleaved, "parallel.virtual_stages=2", "train.batch_sequences=7"}, "train.batch_sequences = 7: ",
       "nearest legal: 8"},
      {4, {"parallel.pp=3"}, "parallel.pp = 3: must divide the 4 ranks", "nearest legal: 4"},
      {4, {"parallel.pp=2", "parallel.ep=4"}, "parallel.ep = 4: must divide the 2 ranks of a stage", "nearest legal: 2"},
      {3, {"parallel.pp=3", dualpipe}, "parallel.pp = 3: schedule dualpipe pairs each rank", "nearest: 2 or 4"},
      {2, {"parallel.pp=2", "parallel.stages=1|1"}, "parallel.stages = \"1|1\": that is 2 layers", "such as \"3|1\""},
      {2, {"parallel.pp=2", "parallel.virtual_stages=2"}, "parallel.virtual_stages = 2: schedule 1f1b", "nearest: 1"},
  };
  ASSERT_EQ(Train(1, 1, "kept", {"train.steps=1"}).exit_code, 0);
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

}  // namespace
}  // namespace jevons
