#include "tests/parallel/fake_nccl_job.h"

#include "gtest/gtest.h"
#include "parallel/comm/loopback.h"

namespace jevons {

void RunFakeNccl(int ranks, const std::function<void(FakeRank& rank)>& body) {
  const auto hub = std::make_shared<FakeNccl::Hub>();
  RunLoopback(ranks, [&](Communicator& host) {
    FakeNccl nccl(hub);
    OwnedStream compute(Device::kCuda);
    FakeRank rank{host, nccl, compute.get()};
    body(rank);
  });
  EXPECT_EQ(hub->mismatches, 0) << "messages of another size than their receiver expects";
}

}  // namespace jevons
