// What a search lists has been counted; what formulas alone let pass is marked, and suggested to nobody.
#include "trainer/plan/counted_search.h"

#include <gmock/gmock.h>

#include "tests/trainer/plan/plan_cases.h"
#include "trainer/plan/layout_fields.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

constexpr double kGiB = 1024.0 * 1024 * 1024;

class CountedSearch : public ::testing::Test {
 protected:
  // Where `bytes` of each GPU are for tensors.
  SearchResult Search(double bytes) {
    cluster_.mutable_gpu()->set_hbm_gib(bytes / kGiB + cluster_.gpu().reserved_gib());
    return SearchLayouts(config_, cluster_);
  }
  // Bytes of the fullest of all ranks.
  double Fullest(const Layout& l) const {
    const MeshShape mesh{.world = static_cast<int>(l.gpus), .pp = static_cast<int>(l.pp), .ep = static_cast<int>(l.ep)};
    const auto ranks = PlanPipelineMemory(WithLayout(config_, l), mesh, Constants().expert_imbalance);
    int64_t fullest = 0;
    for (const PlannedMemory& rank : *ranks) fullest = std::max(fullest, rank.use.total());
    return static_cast<double>(fullest);
  }

  const RunConfig config_ = Preset("deepseek_v2_lite_16b", {"parallel.backend=CUDA", "train.batch_sequences=64"});
  ClusterConfig cluster_ = [] {
    ClusterConfig cluster = ClusterNamed("h100_256");
    cluster.set_gpus(8);
    return cluster;
  }();
};

TEST_F(CountedSearch, ListsTheFullestRankOfWhatFits) {
  SearchResult result = Search(80 * kGiB);
  CountBest(config_, cluster_, 2, result);
  for (int i = 0; i < 2; ++i) {
    const Candidate& c = result.fitting[i];
    ASSERT_TRUE(c.counted && c.counted->fits) << c.layout.ToString();
    EXPECT_EQ(c.counted->bytes, Fullest(c.layout)) << c.layout.ToString();
  }
  EXPECT_FALSE(result.fitting[2].counted) << "counted beyond what was wanted";
}

// Between the formulas' bytes and the counted ones of a layout lies a GPU on which only the formulas fit it: it is marked, stands behind those that
// fit, and is suggested to nobody.
TEST_F(CountedSearch, WhatOnlyFormulasFit) {
  SearchResult large = Search(80 * kGiB);
  CountBest(config_, cluster_, 6, large);
  const Candidate* widest = &large.fitting[0];
  for (const Candidate& c : large.fitting)
    if (c.counted && c.counted->fits && c.counted->bytes / c.memory > widest->counted->bytes / widest->memory) widest = &c;
  ASSERT_GT(widest->counted->bytes, 1.02 * widest->memory) << "formulas underestimate none of these";
  const double limit = (widest->counted->bytes + widest->memory) / 2;
  SearchResult small = Search(limit);
  CountBest(config_, cluster_, 6, small);
  bool behind = false, found = false;
  for (const Candidate& c : small.fitting) {
    if (!c.refusal.empty()) continue;
    EXPECT_FALSE(behind && !c.overfull()) << c.layout.ToString() << " stands behind what does not fit";
    behind |= c.overfull();
    found |= c.overfull() && c.layout.ToString() == widest->layout.ToString();
  }
  EXPECT_TRUE(found) << widest->layout.ToString();
  EXPECT_THAT(SearchText(small, LayoutOf(config_, 8), cluster_, 1000), HasSubstr("!  yes"));
  SearchResult again = Search(limit);
  Layout base = widest->layout;
  base.micro_batch *= 2;
  const Candidate* nearest = NearestThatFits(config_, cluster_, again, base);
  ASSERT_NE(nearest, nullptr);
  EXPECT_NE(nearest->layout.ToString(), widest->layout.ToString());
  ASSERT_TRUE(nearest->counted && nearest->counted->fits);
  EXPECT_LE(Fullest(nearest->layout), limit);
}

TEST_F(CountedSearch, SaysSoWhereNothingFitsOnceCounted) {
  SearchResult result = Search(80 * kGiB);
  for (Candidate& c : result.fitting) c.counted = CountedMemory{.bytes = 100 * kGiB, .fits = false};
  EXPECT_THAT(std::string(FitStatus(result).message()), HasSubstr("no layout fits once its memory is counted"));
  result.fitting.back().counted->fits = true;
  EXPECT_TRUE(FitStatus(result).ok());
}

}  // namespace
}  // namespace jevons
