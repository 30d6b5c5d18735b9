// NCCL: transfers between the GPUs of several ranks, and what this machine has of it.
#ifndef JEVONS_PARALLEL_COMM_NCCL_H_
#define JEVONS_PARALLEL_COMM_NCCL_H_

#include <memory>
#include <string>

#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"

namespace jevons {

struct NcclReport {
  bool built = false;    // this program has the NCCL transport
  std::string compiled;  // "2.28.9": of the header; empty without
  std::string loaded;    // "2.28.9": of the library that was found; empty without
  std::string problem;   // why no communicator can be had; empty where one can
};
NcclReport ExamineNccl();

// A communicator over the ranks of `host`, each with the device it uses (UseCudaDevice): transfers on CUDA streams go
// over NCCL, on a stream of its own; all else, and NCCL's own rendezvous, over a duplicate of `host`. Split gives
// communicators of the same kind. Collective. FailureError where there is no NCCL; a peer that does not come, or any
// later failure, ends the job as every communicator's does.
//
// Failures are seen by a thread that watches the transfers under way, as the host may then be anywhere: NCCL's
// asynchronous errors, and a transfer that could begin and has not ended after the watchdog's deadline.
//
// JEVONS_SHARED_GPU=1 in the environment, for tests with several ranks on one GPU (tests/gpu/nccl_env.sh): the host
// waits before and after each transfer, so that no rank's kernels hold the GPU while another's transfer needs it.
absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(Communicator& host);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_NCCL_H_
