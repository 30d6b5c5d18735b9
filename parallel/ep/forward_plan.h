// Which rows go where when a token crosses the network once for each node that has experts of it, and is forwarded inside (the dispatch
// of DeepSeek-V3's report, 3.2.2). Plain integers, made on the host.
//
// ep = nodes x locals, a node's ranks being neighbours. Two hops: along the rail, to the rank of the same place in each node where a
// token has experts; from there to the node's ranks that have them. A row of one token never joins that of another.
//
//   dispatch   source --rail: a row for each (token, node)--> forwarder --local: a row for each (token, rank)--> owner: a row for each expert
//   combine    source <--rail: a sum for each (token, group)-- forwarder <--local: units-- owner
//
// A unit is the sum over a routing group, where the owner has all of it, else the row of one expert. A node has whole groups, so that what
// the source adds is what contract 8 (trainer/DESIGN.md) says, bit by bit.
//
// The pairs of a token (its slots) stand in the order of their groups, then of their slots. Everything is in the order of (destination,
// [source,] token, pair), whatever the timing.
#ifndef JEVONS_PARALLEL_EP_FORWARD_PLAN_H_
#define JEVONS_PARALLEL_EP_FORWARD_PLAN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/partition.h"

namespace jevons {

// Where experts and their groups are.
struct ForwardMap {
  int64_t experts = 1, groups = 1;
  int nodes = 1, locals = 1;
  int ranks() const { return nodes * locals; }
  int RankAt(int node, int local) const { return node * locals + local; }
  int OwnerOf(int64_t expert) const { return static_cast<int>(BlockOwner(experts, ranks(), expert)); }
  int64_t GroupOf(int64_t expert) const { return expert / (experts / groups); }
  Range ExpertsOf(int64_t group) const { return BlockOf(experts, groups, group); }
  Range OfRank(int rank) const { return BlockOf(experts, ranks(), rank); }
  Range OfNode(int node) const { return BlockOf(experts, nodes, node); }
  int NodeOf(int64_t group) const { return static_cast<int>(group * nodes / groups); }  // which has all of it
  // Whether a rank has all experts of a group.
  bool HasWhole(int rank, int64_t group) const {
    const Range own = OfRank(rank), all = ExpertsOf(group);
    return own.begin <= all.begin && all.end <= own.end;
  }
  bool NodesHaveWholeGroups() const { return groups % nodes == 0; }
};

// How much goes to each rank of a hop's group, and comes from it.
struct Flow {
  std::vector<int64_t> to, from;
  int64_t sent() const { return Sum(to); }
  int64_t received() const { return Sum(from); }
  static int64_t Sum(std::span<const int64_t> counts) {
    int64_t sum = 0;
    for (const int64_t count : counts) sum += count;
    return sum;
  }
};

// What travels, as it does in the direction in which it does. rail: by node; local: by rank of the node.
struct ForwardFlows {
  Flow rail_rows, rail_pairs, local_rows, local_pairs;  // dispatch
  Flow local_units, rail_groups;                        // combine
};

// Lists of what a gather or a sum reads. Pairs at the source are t * K + k.
struct ForwardLists {
  // At the source: tokens and pairs as they leave; for each pair where it comes back; for each token the groups that come back.
  std::vector<int32_t> rail_tokens, rail_pairs, returned_pairs, returned_groups, token_offsets;
  // At the forwarder: of what arrives, rows and pairs as they leave; for each pair that arrived where it comes back; for each (token,
  // group) its units.
  std::vector<int32_t> local_rows, local_pairs, back_pairs, group_units, group_offsets;
  // At the owner: for each row by expert the row, and the pair, that arrived; for each unit its rows by expert, which are those of the
  // pairs as they arrived.
  std::vector<int32_t> expert_rows, expert_pairs, unit_rows, unit_offsets;
};

// Everything that a rank has to know.
struct ForwardPlan {
  ForwardFlows flows;
  ForwardLists lists;
  std::vector<int64_t> segment_offsets;  // [local experts * ranks + 1]: rows by expert, then by source
};

// What a source tells the others: numbers first, of one size, and with these known the lists.
class ForwardSource {
 public:
  // indices: [T * slots], the experts of each token of rank `rank`.
  ForwardSource(const ForwardMap& map, int rank, std::span<const int32_t> indices, int64_t slots);

  // To rank r: rows and pairs for its experts; rows and pairs for its node where it is on this rank's rail, else 0.
  static constexpr int kNumbers = 4;
  std::vector<int64_t> NumbersFor(int r) const;
  // As long as the sum of the numbers: for each row how many pairs it has, then the expert of each pair; for both.
  std::vector<int32_t> ListFor(int r) const;

  // The plan of this rank. numbers: [ranks * kNumbers]; lists: what came from each rank, one after the other.
  ForwardPlan Plan(std::span<const int64_t> numbers, std::span<const int32_t> lists) const;
  int64_t tokens() const { return tokens_; }

 private:
  struct List {
    std::vector<int32_t> counts, experts;  // [rows], [pairs]
    std::vector<int32_t> tokens, pairs;    // of the source
  };
  static void Append(const List& list, std::vector<int32_t>& message);
  bool OnRail(int r) const { return r % map_.locals == rank_ % map_.locals; }
  ForwardMap map_;
  int rank_;
  int64_t tokens_, slots_;
  std::vector<List> of_rank_, of_node_;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_EP_FORWARD_PLAN_H_
