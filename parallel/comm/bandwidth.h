// How fast a group exchanges: the measurement behind `jevons bench all-to-all`.
#ifndef JEVONS_PARALLEL_COMM_BANDWIDTH_H_
#define JEVONS_PARALLEL_COMM_BANDWIDTH_H_

#include "parallel/comm/communicator.h"

namespace jevons {

struct AllToAllResult {
  int64_t bytes_per_peer = 0;
  double seconds = 0;  // of the median all-to-all, on the slowest rank
  double gigabytes_per_second =
      0;  // that each rank sends to the others: (size - 1) * bytes_per_peer / seconds / 1e9
};

// All-to-all of `bytes_per_peer` bytes from every rank to every rank, `repeats` (> 0) times after one that
// warms up. Collective; every rank gets the same result.
AllToAllResult MeasureAllToAll(Communicator& group, int64_t bytes_per_peer, int repeats);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_BANDWIDTH_H_
