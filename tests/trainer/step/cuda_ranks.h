// Ranks that train on CUDA, as the program at hand can have them.
#ifndef JEVONS_TESTS_TRAINER_STEP_CUDA_RANKS_H_
#define JEVONS_TESTS_TRAINER_STEP_CUDA_RANKS_H_

#include <functional>

#include "parallel/comm/communicator.h"

namespace jevons {

// Calls `body` on `ranks` threads. On a device there is one rank: others would be other processes.
int MostCudaRanks();
// Whether the host plays NVIDIA's libraries: what they take is then known to the byte.
bool LibrariesArePlayed();
void RunCudaRanks(int ranks, const std::function<void(Communicator& world)>& body);

}  // namespace jevons

#endif  // JEVONS_TESTS_TRAINER_STEP_CUDA_RANKS_H_
