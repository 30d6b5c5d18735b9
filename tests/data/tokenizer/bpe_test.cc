#include "data/tokenizer/bpe.h"

#include <random>
#include <string>

#include "gtest/gtest.h"

namespace jevons {
namespace {

// The definition, literally: again and again the pair of lowest rank, the leftmost on ties.
std::vector<int32_t> MergedByDefinition(const MergeRanks& ranks, std::vector<int32_t> symbols) {
  while (true) {
    size_t best = symbols.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto* rank = ranks.Find(symbols[i], symbols[i + 1]);
      if (rank == nullptr) continue;
      if (best == symbols.size() || rank->rank < ranks.Find(symbols[best], symbols[best + 1])->rank) best = i;
    }
    if (best == symbols.size()) return symbols;
    symbols[best] = ranks.Find(symbols[best], symbols[best + 1])->result;
    symbols.erase(symbols.begin() + best + 1);
  }
}

// Random merges over three letters, in any order of rank: also those that no training would give.
MergeRanks RandomMerges(std::mt19937_64& random) {
  std::vector<std::string> tokens = {"a", "b", "c"};
  MergeRanks ranks;
  for (int i = 0; i < 30; ++i) {
    const auto left = static_cast<int32_t>(random() % tokens.size());
    const auto right = static_cast<int32_t>(random() % tokens.size());
    const std::string joined = tokens[left] + tokens[right];
    size_t id = std::find(tokens.begin(), tokens.end(), joined) - tokens.begin();
    if (!ranks.Insert({left, right, static_cast<int32_t>(id)})) continue;
    if (id == tokens.size()) tokens.push_back(joined);
  }
  return ranks;
}

TEST(MergeLoopTest, FollowsTheDefinition) {
  std::mt19937_64 random(3);
  MergeLoop loop;
  for (int trial = 0; trial < 2000; ++trial) {
    const MergeRanks ranks = RandomMerges(random);
    for (int word = 0; word < 10; ++word) {
      std::vector<int32_t> symbols(random() % 40);
      for (int32_t& symbol : symbols) symbol = static_cast<int32_t>(random() % 3);
      std::vector<int32_t> merged;
      loop.Run(ranks, symbols, merged);
      ASSERT_EQ(merged, MergedByDefinition(ranks, symbols));
    }
  }
}

// Words whose candidates lie by rank; ranks come up that are lower than the one under way.
TEST(MergeLoopTest, LongWordsFollowTheDefinition) {
  std::mt19937_64 random(7);
  MergeLoop loop;
  for (int trial = 0; trial < 6; ++trial) {
    const MergeRanks ranks = RandomMerges(random);
    std::vector<int32_t> symbols(4096 + random() % 64);
    for (int32_t& symbol : symbols) symbol = static_cast<int32_t>(random() % 3);
    std::vector<int32_t> merged;
    loop.Run(ranks, symbols, merged);
    ASSERT_EQ(merged, MergedByDefinition(ranks, symbols)) << trial;
  }
}

// "ab" + "a" goes before "a" + "b", whose result it needs: each "ab" that is made takes the "a" of the next away.
TEST(MergeLoopTest, ALowerRankThatComesUpGoesFirst) {
  MergeRanks ranks;
  ASSERT_TRUE(ranks.Insert({2, 0, 3}));
  ASSERT_TRUE(ranks.Insert({0, 1, 2}));
  for (const size_t pairs : {size_t{8}, size_t{4000}}) {
    std::vector<int32_t> symbols, expected, merged;
    for (size_t i = 0; i < pairs; ++i) symbols.insert(symbols.end(), {0, 1});
    for (size_t i = 0; i < pairs / 2; ++i) expected.insert(expected.end(), {3, 1});
    MergeLoop().Run(ranks, symbols, merged);
    EXPECT_EQ(merged, expected) << pairs;
  }
}

TEST(MergeLoopTest, AppendsAndTakesLongWords) {
  MergeRanks ranks;
  EXPECT_TRUE(ranks.Insert({0, 0, 1}));
  EXPECT_TRUE(ranks.Insert({1, 1, 2}));
  EXPECT_FALSE(ranks.Insert({0, 0, 3}));
  std::vector<int32_t> merged = {9};
  MergeLoop().Run(ranks, std::vector<int32_t>(1'000'003, 0), merged);  // 250,000 times 4, then 2, then 1
  ASSERT_EQ(merged.size(), 1 + 250'000 + 2);
  EXPECT_EQ(merged[0], 9);
  EXPECT_EQ(merged[250'000], 2);
  EXPECT_EQ(merged[250'001], 1);
  EXPECT_EQ(merged[250'002], 0);
}

}  // namespace
}  // namespace jevons
