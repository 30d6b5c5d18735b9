#include "parallel/zero/sum_tree.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace jevons {
namespace {

// A node is told by its range alone: where the tree ends inside it, the nodes of several levels cover the
// same leaves and have the same value.
bool AreSiblings(Range left, Range right, int64_t count) {
  const int64_t size = left.size();
  return left.begin % (2 * size) == 0 && left.end == right.begin &&
         right.end == std::min(left.begin + 2 * size, count);
}

class Joiner {
 public:
  Joiner(const std::vector<Range>& nodes, int64_t count) : nodes_(nodes), count_(count) {}

  // Joins the nodes that make up node (begin, size); returns the index that holds its value.
  int Join(int64_t begin, int64_t size, std::vector<std::pair<int, int>>& order) {
    const Range range{begin, std::min(begin + size, count_)};
    JEVONS_CHECK(next_ < nodes_.size() && nodes_[next_].begin == begin && nodes_[next_].end <= range.end,
                 "the ranks' nodes do not cover the %lld micro-batches exactly",
                 static_cast<long long>(count_));
    if (nodes_[next_] == range) return static_cast<int>(next_++);
    JEVONS_CHECK(size > 1, "an empty node at micro-batch %lld", static_cast<long long>(begin));
    const int left = Join(begin, size / 2, order);
    if (begin + size / 2 < count_) order.emplace_back(left, Join(begin + size / 2, size / 2, order));
    return left;
  }
  size_t next() const { return next_; }

 private:
  const std::vector<Range>& nodes_;
  const int64_t count_;
  size_t next_ = 0;
};

}  // namespace

std::vector<Range> NodesOf(Range block, int64_t count) {
  JEVONS_CHECK(0 <= block.begin && block.end <= count, "block [%lld, %lld) of %lld micro-batches",
               static_cast<long long>(block.begin), static_cast<long long>(block.end),
               static_cast<long long>(count));
  std::vector<Range> nodes;
  for (int64_t begin = block.begin; begin < block.end;) {
    Range node{begin, begin + 1};
    for (int64_t size = 2; begin % size == 0 && node.end < block.end; size *= 2) {
      const int64_t end = std::min(begin + size, count);
      if (end > block.end) break;
      node.end = end;
    }
    nodes.push_back(node);
    begin = node.end;
  }
  return nodes;
}

BlockPlan PlanBlock(Range block, int64_t count) {
  BlockPlan plan;
  std::vector<Range> stack;  // nodes held so far; the slot of a node is its place on the stack
  for (int64_t leaf = block.begin; leaf < block.end; ++leaf) {
    LeafPlan& step = plan.leaves.emplace_back();
    const Range own{leaf, leaf + 1};
    step.add = !stack.empty() && stack.back().size() == 1 && AreSiblings(stack.back(), own, count);
    if (step.add) {
      stack.back().end = own.end;
    } else {
      stack.push_back(own);
    }
    step.slot = static_cast<int>(stack.size()) - 1;
    plan.slots = std::max(plan.slots, static_cast<int>(stack.size()));
    while (stack.size() > 1 && AreSiblings(stack[stack.size() - 2], stack.back(), count)) {
      const int right = static_cast<int>(stack.size()) - 1;
      step.merges.emplace_back(right - 1, right);
      stack[right - 1].end = stack[right].end;
      stack.pop_back();
    }
  }
  for (size_t i = 0; i < stack.size(); ++i) plan.node_slots.push_back(static_cast<int>(i));
  return plan;
}

std::vector<std::pair<int, int>> JoinOrder(const std::vector<Range>& nodes, int64_t count) {
  JEVONS_CHECK(count > 0, "a step of %lld micro-batches", static_cast<long long>(count));
  int64_t size = 1;
  while (size < count) size *= 2;
  std::vector<std::pair<int, int>> order;
  Joiner joiner(nodes, count);
  joiner.Join(0, size, order);
  JEVONS_CHECK(joiner.next() == nodes.size(), "%zu nodes too many", nodes.size() - joiner.next());
  return order;
}

}  // namespace jevons
