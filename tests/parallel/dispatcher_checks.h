// The dispatcher over any transport and device. All ranks of the group call together; rows lie where the stream works.
#ifndef JEVONS_TESTS_PARALLEL_DISPATCHER_CHECKS_H_
#define JEVONS_TESTS_PARALLEL_DISPATCHER_CHECKS_H_

#include <cstdint>
#include <functional>

#include "parallel/comm/communicator.h"

namespace jevons {

// rows(rank, expert): how many rows that rank sends to that expert. Checks where every row arrives, and that
// it comes back.
void CheckDispatch(Communicator& ep, int64_t experts,
                   const std::function<int64_t(int rank, int64_t expert)>& rows, const Stream& stream = {});

// Uneven blocks of experts, silent experts, everything to one rank, ranks with nothing to send, more ranks
// than experts.
void CheckDispatchCases(Communicator& ep, const Stream& stream = {});

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_DISPATCHER_CHECKS_H_
