// Every collective against a plain computation. Loopback and MPI tests call the same checks, all ranks
// together.
#ifndef JEVONS_TESTS_PARALLEL_COLLECTIVE_CHECKS_H_
#define JEVONS_TESTS_PARALLEL_COLLECTIVE_CHECKS_H_

#include "parallel/comm/communicator.h"

namespace jevons {

void CheckBarrier(Communicator& group);      // many in a row come through; that they hold, loopback_test sees
void CheckAllGather(Communicator& group);    // even and uneven parts, empty ones among them
void CheckAllToAllV(Communicator& group);    // 200 random rounds
void CheckInterleaved(Communicator& group);  // several transfers under way, waited for in other orders on each rank
void CheckReductions(Communicator& group);
void CheckBroadcast(Communicator& group);
void CheckSubgroups(Communicator& world);   // each group of a split repeats the checks; groups do not mix messages
void CheckEmptyCalls(Communicator& group);  // zero bytes everywhere
void CheckLargeParts(Communicator& group);  // parts of 3 MiB, past every eager limit
void CheckBackground(Communicator& world);  // a group whose transfers a thread moves on, beside one without

void CheckEverything(Communicator& world);

// The calls that take a stream: data goes where it belongs, in the order of the stream's work, without the host waiting.
// Every size from zero on, several transfers under way, messages between two ranks, groups of a split.
void CheckDataPlane(Communicator& world, const Stream& stream);

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_COLLECTIVE_CHECKS_H_
