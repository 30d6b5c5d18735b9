#include "parallel/ep/forward_plan.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/check.h"

namespace jevons {
namespace {

int32_t Narrow(size_t n) { return static_cast<int32_t>(n); }

// The map as tables: every pair asks several times.
struct Places : ForwardMap {
  explicit Places(const ForwardMap& map) : ForwardMap(map) {
    for (int64_t e = 0; e < experts; ++e) {
      group_of.push_back(static_cast<int32_t>(map.GroupOf(e)));
      owner_of.push_back(map.OwnerOf(e));
      in_whole.push_back(map.HasWhole(owner_of.back(), group_of.back()));
    }
  }
  int32_t GroupOf(int32_t expert) const { return group_of[static_cast<size_t>(expert)]; }
  int OwnerOf(int32_t expert) const { return owner_of[static_cast<size_t>(expert)]; }
  bool OwnerHasGroupOf(int32_t expert) const { return in_whole[static_cast<size_t>(expert)]; }
  std::vector<int32_t> group_of;
  std::vector<int> owner_of;
  std::vector<bool> in_whole;
};

// Rows of one source as they arrive, each with its pairs.
struct Arrived {
  std::span<const int32_t> counts, experts;  // [rows], [pairs]
};

// Calls run(begin, end) for each run of pairs [begin, end) of one group, in `experts`.
template <typename Function>
void ForGroups(const Places& map, std::span<const int32_t> experts, Function run) {
  for (size_t begin = 0, end = 0; begin < experts.size(); begin = end) {
    while (end < experts.size() && map.GroupOf(experts[end]) == map.GroupOf(experts[begin])) ++end;
    run(begin, end);
  }
}

void PlanSource(const Places& map, int64_t slots, int64_t tokens, const std::vector<std::span<const int32_t>>& token_lists,
                const std::vector<std::span<const int32_t>>& pair_lists, const std::vector<Arrived>& of_node, ForwardPlan& plan) {
  ForwardLists& lists = plan.lists;
  lists.returned_pairs.resize(static_cast<size_t>(tokens * slots));
  std::vector<std::vector<int32_t>> groups(static_cast<size_t>(tokens));  // of each token, where they come back
  int32_t returned = 0;
  for (size_t node = 0; node < of_node.size(); ++node) {
    const auto& [counts, experts] = of_node[node];
    plan.flows.rail_rows.to.push_back(static_cast<int64_t>(counts.size()));
    plan.flows.rail_pairs.to.push_back(static_cast<int64_t>(experts.size()));
    const int32_t before = returned;
    size_t pair = 0;
    for (size_t row = 0; row < counts.size(); ++row) {
      const auto of_row = experts.subspan(pair, static_cast<size_t>(counts[row]));
      ForGroups(map, of_row, [&](size_t, size_t) { groups[static_cast<size_t>(token_lists[node][row])].push_back(returned++); });
      pair += of_row.size();
    }
    plan.flows.rail_groups.from.push_back(returned - before);
    lists.rail_tokens.insert(lists.rail_tokens.end(), token_lists[node].begin(), token_lists[node].end());
    for (const int32_t p : pair_lists[node]) {
      lists.returned_pairs[static_cast<size_t>(p)] = Narrow(lists.rail_pairs.size());
      lists.rail_pairs.push_back(p);
    }
  }
  lists.token_offsets.push_back(0);
  for (const std::vector<int32_t>& of_token : groups) {
    lists.returned_groups.insert(lists.returned_groups.end(), of_token.begin(), of_token.end());
    lists.token_offsets.push_back(Narrow(lists.returned_groups.size()));
  }
}

// from: by node, what came along the rail.
void PlanForwarder(const Places& map, int node, const std::vector<Arrived>& from, ForwardPlan& plan) {
  ForwardLists& lists = plan.lists;
  struct ToRank {
    std::vector<int32_t> rows, pairs;
    int64_t units = 0;
  };
  std::vector<ToRank> to(static_cast<size_t>(map.locals));
  int32_t row = 0, pair = 0;
  std::vector<int32_t> unit_of;  // of each pair, among those of its rank
  for (const auto& [counts, experts] : from) {
    plan.flows.rail_rows.from.push_back(static_cast<int64_t>(counts.size()));
    plan.flows.rail_pairs.from.push_back(static_cast<int64_t>(experts.size()));
    size_t first = 0;
    for (const int32_t count : counts) {
      ForGroups(map, experts.subspan(first, static_cast<size_t>(count)), [&, &experts = experts](size_t begin, size_t end) {
        for (size_t p = first + begin; p < first + end; ++p) {
          const int owner = map.OwnerOf(experts[p]);
          ToRank& rank = to[static_cast<size_t>(owner - map.RankAt(node, 0))];
          if (rank.rows.empty() || rank.rows.back() != row) rank.rows.push_back(row);
          rank.pairs.push_back(pair++);
          const bool joins = p > first + begin && map.OwnerHasGroupOf(experts[p]);
          unit_of.push_back(static_cast<int32_t>(joins ? rank.units - 1 : rank.units++));
        }
      });
      first += static_cast<size_t>(count);
      ++row;
    }
  }
  lists.back_pairs.resize(static_cast<size_t>(pair));
  std::vector<int32_t> first_unit;  // of each rank, as they come back
  int32_t units = 0;
  for (const ToRank& rank : to) {
    plan.flows.local_rows.to.push_back(static_cast<int64_t>(rank.rows.size()));
    plan.flows.local_pairs.to.push_back(static_cast<int64_t>(rank.pairs.size()));
    plan.flows.local_units.from.push_back(rank.units);
    lists.local_rows.insert(lists.local_rows.end(), rank.rows.begin(), rank.rows.end());
    for (const int32_t p : rank.pairs) {
      lists.back_pairs[static_cast<size_t>(p)] = Narrow(lists.local_pairs.size());
      lists.local_pairs.push_back(p);
    }
    first_unit.push_back(units);
    units += static_cast<int32_t>(rank.units);
  }
  lists.group_offsets.push_back(0);
  pair = 0;
  for (const auto& [counts, experts] : from) {
    const size_t before = lists.group_offsets.size();
    size_t first = 0;
    for (const int32_t count : counts) {
      ForGroups(map, experts.subspan(first, static_cast<size_t>(count)), [&, &experts = experts](size_t begin, size_t end) {
        for (size_t p = first + begin; p < first + end; ++p, ++pair) {
          const auto local = static_cast<size_t>(map.OwnerOf(experts[p]) - map.RankAt(node, 0));
          const int32_t unit = first_unit[local] + unit_of[static_cast<size_t>(pair)];
          if (p == first + begin || lists.group_units.back() != unit) lists.group_units.push_back(unit);
        }
        lists.group_offsets.push_back(Narrow(lists.group_units.size()));
      });
      first += static_cast<size_t>(count);
    }
    plan.flows.rail_groups.to.push_back(static_cast<int64_t>(lists.group_offsets.size() - before));
  }
}

// from: by source rank. Rows arrive by forwarder, then by node.
void PlanOwner(const Places& map, int rank, const std::vector<Arrived>& from, ForwardPlan& plan) {
  ForwardLists& lists = plan.lists;
  const Range own = map.OfRank(rank);
  const auto segment = [&](int64_t expert, size_t source) {
    return static_cast<size_t>(expert - own.begin) * from.size() + source;
  };
  std::vector<int64_t>& offsets = plan.segment_offsets;
  offsets.assign(static_cast<size_t>(own.size()) * from.size() + 1, 0);
  for (size_t source = 0; source < from.size(); ++source)
    for (const int32_t expert : from[source].experts) ++offsets[segment(expert, source) + 1];
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  std::vector<int64_t> next = offsets;

  lists.expert_rows.resize(static_cast<size_t>(offsets.back()));
  lists.expert_pairs.resize(lists.expert_rows.size());
  lists.unit_offsets.push_back(0);
  int32_t row = 0;
  for (int local = 0; local < map.locals; ++local) {
    const int32_t rows_before = row;
    const size_t pairs_before = lists.unit_rows.size(), units_before = lists.unit_offsets.size();
    for (int node = 0; node < map.nodes; ++node) {
      const auto source = static_cast<size_t>(map.RankAt(node, local));
      const auto& [counts, experts] = from[source];
      size_t first = 0;
      for (const int32_t count : counts) {
        ForGroups(map, experts.subspan(first, static_cast<size_t>(count)), [&, &experts = experts](size_t begin, size_t end) {
          const bool whole = map.OwnerHasGroupOf(experts[first + begin]);
          for (size_t p = first + begin; p < first + end; ++p) {
            const auto by_expert = static_cast<size_t>(next[segment(experts[p], source)]++);
            lists.expert_rows[by_expert] = row;
            lists.expert_pairs[by_expert] = Narrow(lists.unit_rows.size());
            lists.unit_rows.push_back(Narrow(by_expert));
            if (!whole || p + 1 == first + end) lists.unit_offsets.push_back(Narrow(lists.unit_rows.size()));
          }
        });
        first += static_cast<size_t>(count);
        ++row;
      }
    }
    plan.flows.local_rows.from.push_back(row - rows_before);
    plan.flows.local_pairs.from.push_back(static_cast<int64_t>(lists.unit_rows.size() - pairs_before));
    plan.flows.local_units.to.push_back(static_cast<int64_t>(lists.unit_offsets.size() - units_before));
  }
}

}  // namespace

ForwardSource::ForwardSource(const ForwardMap& map, int rank, std::span<const int32_t> indices, int64_t slots)
    : map_(map),
      rank_(rank),
      tokens_(static_cast<int64_t>(indices.size()) / slots),
      slots_(slots),
      of_rank_(static_cast<size_t>(map.ranks())),
      of_node_(static_cast<size_t>(map.nodes)) {
  const Places places(map);
  std::vector<int32_t> order(static_cast<size_t>(slots));
  for (int64_t t = 0; t < tokens_; ++t) {
    for (size_t k = 0; k < order.size(); ++k) {  // sorted by insertion, stably
      const auto pair = static_cast<int32_t>(t * slots) + static_cast<int32_t>(k), expert = indices[static_cast<size_t>(pair)];
      JEVONS_CHECK(expert >= 0 && expert < map.experts, "expert %d of %lld", expert, static_cast<long long>(map.experts));
      size_t at = k;
      for (; at > 0 && places.GroupOf(indices[static_cast<size_t>(order[at - 1])]) > places.GroupOf(expert); --at)
        order[at] = order[at - 1];
      order[at] = pair;
    }
    for (const int32_t pair : order) {
      const int32_t expert = indices[static_cast<size_t>(pair)];
      const auto owner = static_cast<size_t>(places.OwnerOf(expert));
      for (List* list : {&of_rank_[owner], &of_node_[owner / static_cast<size_t>(map.locals)]}) {
        if (list->tokens.empty() || list->tokens.back() != static_cast<int32_t>(t)) {
          list->tokens.push_back(static_cast<int32_t>(t));
          list->counts.push_back(0);
        }
        ++list->counts.back();
        list->experts.push_back(expert);
        list->pairs.push_back(pair);
      }
    }
  }
}

std::vector<int64_t> ForwardSource::NumbersFor(int r) const {
  const List& own = of_rank_[static_cast<size_t>(r)];
  std::vector<int64_t> numbers = {static_cast<int64_t>(own.counts.size()), static_cast<int64_t>(own.experts.size()), 0, 0};
  if (OnRail(r)) {
    const List& node = of_node_[static_cast<size_t>(r / map_.locals)];
    numbers[2] = static_cast<int64_t>(node.counts.size());
    numbers[3] = static_cast<int64_t>(node.experts.size());
  }
  return numbers;
}

void ForwardSource::Append(const List& list, std::vector<int32_t>& message) {
  message.insert(message.end(), list.counts.begin(), list.counts.end());
  message.insert(message.end(), list.experts.begin(), list.experts.end());
}

std::vector<int32_t> ForwardSource::ListFor(int r) const {
  std::vector<int32_t> message;
  Append(of_rank_[static_cast<size_t>(r)], message);
  if (OnRail(r)) Append(of_node_[static_cast<size_t>(r / map_.locals)], message);
  return message;
}

ForwardPlan ForwardSource::Plan(std::span<const int64_t> numbers, std::span<const int32_t> lists) const {
  std::vector<Arrived> at_owner, at_forwarder, sent;
  for (int r = 0; r < map_.ranks(); ++r) {
    const auto take = [&](int number) {
      const auto size = static_cast<size_t>(numbers[static_cast<size_t>(r * kNumbers + number)]);
      const std::span<const int32_t> part = lists.first(size);
      lists = lists.subspan(size);
      return part;
    };
    const std::span<const int32_t> counts = take(0), experts = take(1), node_counts = take(2), node_experts = take(3);
    at_owner.push_back({counts, experts});
    if (OnRail(r)) at_forwarder.push_back({node_counts, node_experts});
  }
  std::vector<std::span<const int32_t>> tokens, pairs;
  for (const List& list : of_node_) {
    sent.push_back({list.counts, list.experts});
    tokens.push_back(list.tokens);
    pairs.push_back(list.pairs);
  }
  const Places places(map_);
  ForwardPlan plan;
  PlanSource(places, slots_, tokens_, tokens, pairs, sent, plan);
  PlanForwarder(places, rank_ / map_.locals, at_forwarder, plan);
  PlanOwner(places, rank_, at_owner, plan);
  return plan;
}

}  // namespace jevons
