// The loopback transport: N ranks as threads of one process, over shared memory.
#ifndef JEVONS_PARALLEL_COMM_LOOPBACK_H_
#define JEVONS_PARALLEL_COMM_LOOPBACK_H_

#include <functional>
#include <memory>

#include "parallel/comm/communicator.h"
#include "parallel/comm/transport.h"

namespace jevons {

// Calls `body` on `ranks` threads, each with its own world communicator, and returns when all have returned.
void RunLoopback(int ranks, const std::function<void(Communicator& world)>& body);

// The same over what `wrap` makes of each rank's transport: one that delays or reorders, say.
using WrapTransport = std::function<std::unique_ptr<Transport>(std::unique_ptr<Transport> transport)>;
void RunLoopback(int ranks, const std::function<void(Communicator& world)>& body, const WrapTransport& wrap);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_LOOPBACK_H_
