// How fast each two ranks of a group talk to each other, and how far their clocks are apart: the measurements behind `jevons doctor
// --hosts`.
#ifndef JEVONS_PARALLEL_COMM_PAIRS_H_
#define JEVONS_PARALLEL_COMM_PAIRS_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/comm/communicator.h"

namespace jevons {

struct PairSpeed {
  int first = 0, second = 0;   // ranks, first < second
  double latency = 0;          // seconds from one to the other: half of the median round trip of 8 bytes
  double there = 0, back = 0;  // bytes/s from the first to the second, and from the second to the first
  double slower() const { return there < back ? there : back; }
};

// Every pair once, ordered by `first`, then `second`; pairs that share no rank are measured at the same time. A direction is measured
// with messages that last `seconds` or have 64 MiB, whichever comes first; the fastest of three counts. Collective; every rank gets the same result.
std::vector<PairSpeed> MeasurePairs(Communicator& group, double seconds);

// With whom `rank` of `size` plays in each round of a tournament in which all play in every round, against each other once; -1 where
// the number is odd and this rank rests.
std::vector<int> TournamentPartners(int rank, int size);

// By how many seconds each rank's clock is ahead of rank 0's, to within half of the fastest round trip between the two. `clock`:
// nanoseconds. Collective; every rank gets the same result.
std::vector<double> MeasureClockOffsets(Communicator& group, const std::function<int64_t()>& clock);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_PAIRS_H_
