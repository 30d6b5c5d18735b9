// The fixed binary tree over the micro-batches of a step (architecture, contract 8), and who holds which part
// of it.
//
// Node (level, i) covers micro-batches [i * 2^level, min((i+1) * 2^level, count)). Its value is left + right,
// or left alone where the right half lies beyond `count`. The root is the step's gradient, whatever the
// layout: a rank owns a contiguous block [begin, end), which splits into at most 2 log2(count) whole nodes;
// it sums those alone, and the rest of the tree joins the nodes of all ranks.
#ifndef JEVONS_PARALLEL_ZERO_SUM_TREE_H_
#define JEVONS_PARALLEL_ZERO_SUM_TREE_H_

#include <utility>
#include <vector>

#include "kernels/base/partition.h"

namespace jevons {

// The whole nodes that cover block [begin, end) of a tree over `count` leaves, left to right, each as the
// range it covers. Nodes are as large as possible: a block that reaches `count` closes its last node there.
std::vector<Range> NodesOf(Range block, int64_t count);

// Where the gradient of leaf `leaf` goes while a rank works through its block in order.
struct LeafPlan {
  int slot = 0;      // buffer that receives the leaf's gradient
  bool add = false;  // add to what the slot holds (the leaf is the right sibling of a leaf), else overwrite
  // After the leaf: slots[a] += slots[b], in order; b is free afterwards.
  std::vector<std::pair<int, int>> merges;
};
struct BlockPlan {
  int slots = 0;                 // buffers needed at once
  std::vector<LeafPlan> leaves;  // one per leaf of the block
  std::vector<int> node_slots;   // slot that finally holds each node of NodesOf(block, count)
};
BlockPlan PlanBlock(Range block, int64_t count);

// The order of additions that joins whole nodes (an exact, ordered cover of [0, count)) into the root:
// value[a] += value[b]; the root ends in value[0].
std::vector<std::pair<int, int>> JoinOrder(const std::vector<Range>& nodes, int64_t count);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_ZERO_SUM_TREE_H_
