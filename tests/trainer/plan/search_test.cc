#include "trainer/plan/search.h"

#include <gmock/gmock.h>

#include "configs/overrides.h"
#include "configs/validate.h"
#include "tests/trainer/plan/plan_cases.h"
#include "trainer/plan/layout_fields.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

// A small cluster, so that the test is quick; the full one is a command away.
SearchResult SmallSearch(double hbm_gib) {
  ClusterConfig cluster = ClusterNamed("h100_256");
  cluster.set_gpus(16);
  cluster.mutable_gpu()->set_hbm_gib(hbm_gib);
  const RunConfig config = Preset("deepseek_v2_lite_16b", {"train.batch_sequences=512"});
  return SearchLayouts(config, cluster);
}

TEST(Search, RanksByCostAndKeepsToMemory) {
  const SearchResult result = SmallSearch(80);
  ASSERT_GT(result.fitting.size(), 10);
  for (size_t i = 1; i < result.fitting.size(); ++i)
    if (result.fitting[i - 1].refusal.empty() == result.fitting[i].refusal.empty()) {
      EXPECT_LE(result.fitting[i - 1].dollars_per_million_tokens, result.fitting[i].dollars_per_million_tokens);
    }
  for (const Candidate& candidate : result.fitting) EXPECT_LE(candidate.memory, 76 * 1024.0 * 1024 * 1024);
  int rejected = 0;
  for (const auto& [reason, rejection] : result.rejected) rejected += rejection.count;
  EXPECT_EQ(rejected + static_cast<int>(result.fitting.size()), result.tried);
}

// What can be trained comes first; what train would say to the others is told.
TEST(Search, MarksWhatTrainRefuses) {
  const RunConfig config = Preset("deepseek_v2_lite_16b", {"train.batch_sequences=512"});
  const SearchResult result = SmallSearch(80);
  ASSERT_TRUE(result.fitting.front().refusal.empty()) << result.fitting.front().refusal;
  bool refused = false;
  int full = 0;
  for (const Candidate& c : result.fitting) {
    EXPECT_FALSE(refused && c.refusal.empty()) << c.layout.ToString() << " comes after what cannot be trained";
    refused |= !c.refusal.empty();
    RunConfig changed = config;
    for (const std::string& assignment : c.assignments) ASSERT_TRUE(ApplyOverride(assignment, changed).ok()) << assignment;
    const bool legal = Validate(changed, static_cast<int>(c.layout.gpus)).empty();
    full += c.layout.recompute == Recompute::kFull;
    EXPECT_EQ(c.refusal.empty(), legal) << c.layout.ToString() << ": " << c.refusal;
    EXPECT_EQ(LayoutOf(changed, c.layout.gpus).ToString(), c.layout.ToString());
    EXPECT_EQ(CutLayoutOf(changed, c.layout.gpus).value().cut, c.layout.cut) << "the cut that was priced";
  }
  EXPECT_GT(full, 0);
  Layout uneven = LayoutOf(config, result.fitting.front().layout.gpus);
  uneven.micro_batch = config.train().batch_sequences() - 1;
  EXPECT_THAT(TrainRefusal(config, uneven), HasSubstr("micro_batch_sequences"));
}

TEST(Search, SmallerMemoryFitsFewerAndSaysWhy) {
  const SearchResult large = SmallSearch(80), small = SmallSearch(24), none = SmallSearch(6);
  EXPECT_LT(small.fitting.size(), large.fitting.size());
  EXPECT_TRUE(none.fitting.empty());
  EXPECT_THAT(SearchText(none, Layout(), ClusterNamed("h100_256"), 5), HasSubstr("GiB too much"));
}

}  // namespace
}  // namespace jevons
