// How fast a group exchanges: the measurement behind `jevons bench all-to-all`.
#ifndef JEVONS_PARALLEL_COMM_BANDWIDTH_H_
#define JEVONS_PARALLEL_COMM_BANDWIDTH_H_

#include "parallel/comm/communicator.h"

namespace jevons {

struct AllToAllResult {
  int64_t bytes_per_peer = 0;
  double seconds = 0;               // of the median all-to-all, of four in a row, on the slowest rank
  double gigabytes_per_second = 0;  // that each rank sends to its peers: their number * bytes_per_peer / seconds / 1e9
};

// kRail: of one place in each node, where all have as many ranks, neighbours first.
enum class Peers { kAll, kSameNode, kOtherNodes, kRail };

// All-to-all of `bytes_per_peer` bytes from every rank to each of its peers, `repeats` (> 0) times after one that
// warms up. Collective; every rank has as many peers, and gets the same result.
AllToAllResult MeasureAllToAll(Communicator& group, int64_t bytes_per_peer, int repeats, Peers peers = Peers::kAll);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_BANDWIDTH_H_
