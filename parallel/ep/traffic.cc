#include "parallel/ep/traffic.h"

#include <algorithm>
#include <cmath>

namespace jevons {

std::array<int64_t*, Traffic::kNumbers> Traffic::Numbers() {
  return {&dispatch.network_rows, &dispatch.network_bytes, &dispatch.local_rows,
          &dispatch.local_bytes,  &combine.network_rows,   &combine.network_bytes,
          &combine.local_rows,    &combine.local_bytes,    &tokens,
          &network_pairs};
}

Traffic& Traffic::operator+=(Traffic other) {
  for (size_t i = 0; i < kNumbers; ++i) *Numbers()[i] += *other.Numbers()[i];
  return *this;
}

ExpectedTraffic Expect(const RoutingShape& shape, const ForwardMap& map) {
  ExpectedTraffic expected;
  const double others = 1 - 1.0 / map.nodes, neighbours = 1 - 1.0 / map.locals;
  expected.pairs = static_cast<double>(shape.slots) * others;
  for (int node = 0; node < map.nodes; ++node) expected.rows += ChanceOf(shape, map.OfNode(node)) * others;
  for (int64_t g = 0; g < shape.groups; ++g) expected.groups += ChanceOf(shape, map.ExpertsOf(g)) * others;
  for (int rank = 0; rank < map.ranks(); ++rank) expected.forwarded += ChanceOf(shape, map.OfRank(rank)) * neighbours;
  return expected;
}

ForwardFlows ExpectedFlows(const RoutingShape& shape, const ForwardMap& map, int rank, int64_t tokens, int64_t arriving,
                           double load) {
  const int node = rank / map.locals, local = rank % map.locals;
  const auto slots = static_cast<double>(shape.slots);
  const int64_t pairs = tokens * shape.slots, sources = map.nodes * tokens;
  // Of `count` tokens, where each has `each` on average; with the load, of which no token makes more than `most`.
  const auto amount = [](double each, int64_t count) {
    return static_cast<int64_t>(std::llround(each * static_cast<double>(count)));
  };
  const auto loaded = [&](double each, double most, int64_t count) { return amount(std::min(each * load, most), count); };
  const auto pairs_of = [&](Range experts) {
    return pairs * experts.end / shape.experts - pairs * experts.begin / shape.experts;
  };
  const auto groups_of = [&](int of_node) {
    double sum = 0;
    for (int64_t g = 0; g < shape.groups; ++g)
      if (map.NodeOf(g) == of_node) sum += ChanceOf(shape, map.ExpertsOf(g));
    return sum;
  };
  const auto units_of = [&](int of_rank) {
    double sum = 0;
    int64_t parts = map.OfRank(of_rank).size();  // experts of groups that it has a part of
    for (int64_t g = 0; g < shape.groups; ++g) {
      if (!map.HasWhole(of_rank, g)) continue;
      sum += ChanceOf(shape, map.ExpertsOf(g));
      parts -= map.ExpertsOf(g).size();
    }
    return sum + slots * static_cast<double>(parts) / static_cast<double>(shape.experts);
  };

  ForwardFlows flows;
  const double most_groups = std::min(slots, static_cast<double>(shape.groups / map.nodes));
  for (int n = 0; n < map.nodes; ++n) {
    const double chance = ChanceOf(shape, map.OfNode(n)), groups = groups_of(n);
    flows.rail_rows.to.push_back(amount(chance, tokens));
    flows.rail_pairs.to.push_back(pairs_of(map.OfNode(n)));
    flows.rail_groups.from.push_back(amount(groups, tokens));
    // What stays is as even as what leaves.
    const bool own = n == node;
    const double here = ChanceOf(shape, map.OfNode(node));
    flows.rail_rows.from.push_back(own ? flows.rail_rows.to.back() : loaded(here, 1, tokens));
    flows.rail_pairs.from.push_back(
        own ? flows.rail_pairs.to.back()
            : loaded(static_cast<double>(pairs_of(map.OfNode(node))) / std::max<double>(1, static_cast<double>(tokens)), slots,
                     tokens));
    flows.rail_groups.to.push_back(own ? flows.rail_groups.from.back() : loaded(groups_of(node), most_groups, tokens));
  }
  for (int l = 0; l < map.locals; ++l) {
    const int other = map.RankAt(node, l);
    const double share = slots * static_cast<double>(map.OfRank(other).size()) / static_cast<double>(shape.experts);
    flows.local_rows.to.push_back(loaded(ChanceOf(shape, map.OfRank(other)), 1, sources));
    flows.local_units.from.push_back(loaded(units_of(other), slots, sources));
    flows.local_rows.from.push_back(loaded(ChanceOf(shape, map.OfRank(rank)), 1, sources));
    flows.local_units.to.push_back(loaded(units_of(rank), slots, sources));
    flows.local_pairs.from.push_back(BlockOf(arriving, map.locals, l).size());
    flows.local_pairs.to.push_back(l == local ? flows.local_pairs.from.back() : loaded(share, slots, sources));
  }
  return flows;
}

}  // namespace jevons
