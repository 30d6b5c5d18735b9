// How many rows a dispatch sends over which links: counted where it runs, and expected of tokens that choose evenly.
#ifndef JEVONS_PARALLEL_EP_TRAFFIC_H_
#define JEVONS_PARALLEL_EP_TRAFFIC_H_

#include <array>
#include <cstdint>

#include "parallel/ep/even_routing.h"
#include "parallel/ep/forward_plan.h"

namespace jevons {

// Sent to other ranks: of other nodes, over the network; and of the own node. Rows of tokens, and all bytes that travel with them.
struct LinkTraffic {
  int64_t network_rows = 0, network_bytes = 0, local_rows = 0, local_bytes = 0;
  int64_t bytes() const { return network_bytes + local_bytes; }
};
struct Traffic {
  LinkTraffic dispatch, combine;
  int64_t tokens = 0;  // dispatched; a micro-batch counts once for each of its dispatches, forward and backward
  int64_t network_pairs =
      0;  // of those, the (token, expert) pairs whose expert is on another node: what would travel without deduplication
  // Every number of it, for sums and differences.
  static constexpr int kNumbers = 10;
  std::array<int64_t*, kNumbers> Numbers();
  Traffic& operator+=(Traffic other);
};

// Expected for each token, of all sources: rows over the network without deduplication, and with each token once to a node; sums of
// groups that come back over it; rows to other ranks of the node that forwards.
struct ExpectedTraffic {
  double pairs = 0, rows = 0, groups = 0, forwarded = 0;
};
ExpectedTraffic Expect(const RoutingShape& shape, const ForwardMap& map);

// What even choices of `tokens` tokens on every rank make of the flows of `rank`, to whose node come `load` times as much, at most
// everything; `arriving` rows come to its experts.
ForwardFlows ExpectedFlows(const RoutingShape& shape, const ForwardMap& map, int rank, int64_t tokens, int64_t arriving,
                           double load);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_EP_TRAFFIC_H_
