// The dispatcher over any transport and device. All ranks of the group call together; rows lie where the stream works.
#ifndef JEVONS_TESTS_PARALLEL_DISPATCHER_CHECKS_H_
#define JEVONS_TESTS_PARALLEL_DISPATCHER_CHECKS_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/ep/dispatcher.h"

namespace jevons {

// The experts that the tokens of every rank chose.
struct Routing {
  int64_t experts = 1, groups = 1, slots = 1;
  std::function<std::vector<int32_t>(int rank)> indices;  // [T * slots], slot by slot
};

// Sends the tokens of every rank to their experts, checks where each row and each value arrives, sends results back, and compares their
// sums, and the values that return, with what contract 8 says, bit by bit.
void CheckDispatch(Communicator& ep, Dispatcher& dispatcher, const Routing& routing, const Stream& stream = {});

// Of `rows(rank, expert)` tokens with one slot each, that many for every expert.
Routing OneSlot(int64_t experts, const std::function<int64_t(int rank, int64_t expert)>& rows);
// `slots` different experts of each token, out of some `kept` groups. tokens(rank): how many a rank has.
Routing Chosen(int64_t experts, int64_t groups, int64_t kept, int64_t slots, uint64_t seed,
               const std::function<int64_t(int rank)>& tokens);

// Uneven blocks of experts, silent experts, everything to one rank, ranks with nothing to send, more ranks
// than experts.
void CheckDispatchCases(Communicator& ep, const Stream& stream = {});

// The same of tokens that are forwarded, over two nodes or, of an odd number of ranks, one for each.
void CheckForwardedCases(Communicator& ep, const Stream& stream = {});

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_DISPATCHER_CHECKS_H_
