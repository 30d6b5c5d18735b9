// The loopback transport: N ranks as threads of one process, over shared memory.
#ifndef JEVONS_PARALLEL_COMM_LOOPBACK_H_
#define JEVONS_PARALLEL_COMM_LOOPBACK_H_

#include <functional>

#include "parallel/comm/communicator.h"

namespace jevons {

// Calls `body` on `ranks` threads, each with its own world communicator, and returns when all have returned.
void RunLoopback(int ranks, const std::function<void(Communicator& world)>& body);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_LOOPBACK_H_
