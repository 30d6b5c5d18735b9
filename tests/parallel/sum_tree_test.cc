#include "parallel/zero/sum_tree.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/philox.h"

namespace jevons {
namespace {

// Of mixed signs and magnitudes: another order of additions gives other bits (TheOrderMatters...).
float Leaf(int64_t i) { return static_cast<float>(std::exp(RandomNormal(5, 0, i)) * RandomNormal(5, 1, i)); }

// The definition: node (level, i), by recursion.
float TreeSum(int64_t begin, int64_t size, int64_t count) {
  if (size == 1) return Leaf(begin);
  const float left = TreeSum(begin, size / 2, count);
  return begin + size / 2 < count ? left + TreeSum(begin + size / 2, size / 2, count) : left;
}
int64_t PowerOfTwoFrom(int64_t count) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(count)));
}

// The nodes that a leaf-by-leaf walk cannot avoid to hold apart: the fewest whole nodes of the tree that
// cover the block.
int64_t FewestNodes(Range block, int64_t begin, int64_t size, int64_t count) {
  const Range node{begin, std::min(begin + size, count)};
  if (node.empty() || node.end <= block.begin || block.end <= node.begin) return 0;
  if (block.begin <= node.begin && node.end <= block.end) return 1;
  return FewestNodes(block, begin, size / 2, count) + FewestNodes(block, begin + size / 2, size / 2, count);
}

// Does what a rank does with its block: one buffer per slot, NaN until written.
std::vector<float> WorkThrough(const BlockPlan& plan, Range block) {
  std::vector<float> slots(plan.slots, NAN);
  for (int64_t i = 0; i < block.size(); ++i) {
    const LeafPlan& leaf = plan.leaves[i];
    slots[leaf.slot] = leaf.add ? slots[leaf.slot] + Leaf(block.begin + i) : Leaf(block.begin + i);
    for (const auto& [a, b] : leaf.merges) {
      slots[a] += slots[b];
      slots[b] = NAN;
    }
  }
  std::vector<float> nodes;
  for (const int slot : plan.node_slots) nodes.push_back(slots[slot]);
  return nodes;
}

float Join(std::vector<float> values, const std::vector<Range>& nodes, int64_t count) {
  for (const auto& [a, b] : JoinOrder(nodes, count)) values[a] += values[b];
  return values[0];
}

TEST(SumTreeTest, NodesAreTheFewestThatCoverTheBlock) {
  for (int64_t count = 1; count <= 40; ++count) {
    for (int64_t begin = 0; begin <= count; ++begin) {
      for (int64_t end = begin; end <= count; ++end) {
        const std::vector<Range> nodes = NodesOf({begin, end}, count);
        int64_t next = begin;
        for (const Range& node : nodes) {
          EXPECT_EQ(node.begin, next);
          EXPECT_EQ(FewestNodes(node, 0, PowerOfTwoFrom(count), count), 1);
          next = node.end;
        }
        EXPECT_EQ(next, end);
        EXPECT_EQ(static_cast<int64_t>(nodes.size()),
                  FewestNodes({begin, end}, 0, PowerOfTwoFrom(count), count));
      }
    }
  }
}

TEST(SumTreeTest, EveryPartitionGivesTheBitsOfTheRecursiveSum) {
  for (int64_t count = 1; count <= 40; ++count) {
    const float expected = TreeSum(0, PowerOfTwoFrom(count), count);
    for (int ranks = 1; ranks <= 8; ++ranks) {
      std::vector<Range> nodes;
      std::vector<float> values;
      for (int rank = 0; rank < ranks; ++rank) {
        const Range block = BlockOf(count, ranks, rank);
        const std::vector<Range> own = NodesOf(block, count);
        const std::vector<float> own_values = WorkThrough(PlanBlock(block, count), block);
        ASSERT_EQ(own.size(), own_values.size());
        nodes.insert(nodes.end(), own.begin(), own.end());
        values.insert(values.end(), own_values.begin(), own_values.end());
      }
      EXPECT_EQ(Join(values, nodes, count), expected) << count << " micro-batches on " << ranks << " ranks";
    }
  }
}

TEST(SumTreeTest, NodesSmallerThanTheyCouldBeJoinToTheSameBits) {
  for (int64_t count = 1; count <= 40; ++count) {
    std::vector<Range> leaves;
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) {
      leaves.push_back({i, i + 1});
      values.push_back(Leaf(i));
    }
    EXPECT_EQ(Join(values, leaves, count), TreeSum(0, PowerOfTwoFrom(count), count));
  }
}

TEST(SumTreeTest, TheOrderMattersInTheseTests) {
  float plain = 0;
  for (int64_t i = 0; i < 40; ++i) plain += Leaf(i);
  EXPECT_NE(plain, TreeSum(0, 64, 40));
}

TEST(SumTreeTest, SlotsAreMinimal) {
  for (int64_t count = 1; count <= 40; ++count) {
    for (int64_t begin = 0; begin < count; ++begin) {
      for (int64_t end = begin + 1; end <= count; ++end) {
        // Before leaf i the nodes of [begin, i) are apart; the leaf needs a place unless it is added to its
        // sibling.
        int64_t needed = 0;
        for (int64_t i = begin; i < end; ++i) {
          const bool joins_sibling = i % 2 == 1 && i > begin;
          needed = std::max(
              needed, FewestNodes({begin, i}, 0, PowerOfTwoFrom(count), count) + (joins_sibling ? 0 : 1));
        }
        EXPECT_EQ(PlanBlock({begin, end}, count).slots, needed)
            << "[" << begin << ", " << end << ") of " << count;
      }
    }
  }
}

TEST(SumTreeTest, AnEmptyBlockNeedsNothing) {
  const BlockPlan plan = PlanBlock({3, 3}, 8);
  EXPECT_EQ(plan.slots, 0);
  EXPECT_TRUE(plan.leaves.empty());
  EXPECT_TRUE(plan.node_slots.empty());
}

TEST(SumTreeDeathTest, NodesThatDoNotCoverTheStepAbort) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(JoinOrder({{0, 2}, {3, 4}}, 4), "do not cover");
  EXPECT_DEATH(JoinOrder({{0, 2}}, 4), "do not cover");
  EXPECT_DEATH(JoinOrder({{0, 3}, {3, 4}}, 4), "do not cover");  // [0, 3) is no node
  EXPECT_DEATH(JoinOrder({{0, 4}, {0, 4}}, 4), "too many");
  EXPECT_DEATH(NodesOf({0, 5}, 4), "block");
}

}  // namespace
}  // namespace jevons
