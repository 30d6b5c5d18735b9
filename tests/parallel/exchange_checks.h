// The collectives of ZeRO over any transport and device. All ranks of the group call together; data lies where the
// stream works.
#ifndef JEVONS_TESTS_PARALLEL_EXCHANGE_CHECKS_H_
#define JEVONS_TESTS_PARALLEL_EXCHANGE_CHECKS_H_

#include <cstdint>
#include <vector>

#include "parallel/comm/communicator.h"

namespace jevons {

struct TreeReduceCase {
  int64_t count = 1;  // micro-batches
  int blocks_per_rank =
      1;  // each rank holds the nodes of that many neighbouring blocks, as an expert's owner does
  bool in_place = false;       // results go where the first partial sum lies
  std::vector<int64_t> sizes;  // elements of the parameters
};
// Bitwise equal to the sum by definition (sum_tree.h), with +0 for -0.
void CheckTreeReduceScatter(Communicator& group, const TreeReduceCase& reduce, const Stream& stream = {});

void CheckAllGatherOwned(Communicator& group, const std::vector<int64_t>& sizes, int64_t element_bytes,
                         const Stream& stream = {});

// 1 to 9 micro-batches, so that some ranks have none; parameters without elements; several windows of
// scratch.
void CheckExchangeCases(Communicator& group, const Stream& stream = {});

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_EXCHANGE_CHECKS_H_
