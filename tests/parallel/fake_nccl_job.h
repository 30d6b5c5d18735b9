// Ranks as threads with devices that are threads too, and a stand-in for NCCL between them.
#ifndef JEVONS_TESTS_PARALLEL_FAKE_NCCL_JOB_H_
#define JEVONS_TESTS_PARALLEL_FAKE_NCCL_JOB_H_

#include <functional>

#include "parallel/comm/nccl_communicator.h"
#include "tests/support/fake_nccl.h"

namespace jevons {

struct FakeRank {
  Communicator& host;
  FakeNccl& nccl;
  const Stream& compute;
  std::unique_ptr<Communicator> Connect(const NcclOptions& options = {}) {
    return std::make_unique<NcclCommunicator>(nccl, host.Split(0, "ep"), options);
  }
};

// Calls `body` on each rank's thread.
void RunFakeNccl(int ranks, const std::function<void(FakeRank& rank)>& body);

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_FAKE_NCCL_JOB_H_
