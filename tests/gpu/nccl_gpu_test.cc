// Every transfer over NCCL against the same over MPI, bit by bit; then the checks that MPI and loopback pass, on device
// tensors. Under mpirun through tests/gpu/nccl_env.sh; several ranks share a GPU.
#include <memory>

#include "gtest/gtest.h"
#include "kernels/base/philox.h"
#include "kernels/tensor/device.h"
#include "parallel/comm/nccl.h"
#include "parallel/mesh.h"
#include "tests/parallel/collective_checks.h"
#include "tests/parallel/dispatcher_checks.h"
#include "tests/parallel/exchange_checks.h"
#include "tests/parallel/stream_memory.h"
#include "tests/support/mpi_world.h"

namespace jevons {
namespace {

class NcclGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    const CudaReport cuda = ExamineCuda();
    if (!cuda.problem.empty()) GTEST_SKIP() << "no CUDA device: " << cuda.problem;
    UseCudaDevice(TestWorld().rank() % static_cast<int>(cuda.devices.size()));
    auto made = MakeNcclCommunicator(TestWorld());
    ASSERT_TRUE(made.ok()) << made.status().message();
    world_ = std::move(*made);
    compute_ = std::make_unique<OwnedStream>(Device::kCuda);
  }
  Communicator& world() { return *world_; }
  const Stream& stream() { return compute_->get(); }

 private:
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<OwnedStream> compute_;
};

std::vector<std::byte> RandomBytes(uint64_t seed, int64_t size) {
  std::vector<std::byte> bytes(size);
  for (int64_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(RandomBits(seed, 1, i));
  return bytes;
}

TEST_F(NcclGpuTest, TransfersHaveTheBitsOfMpi) {
  Communicator& mpi = TestWorld();
  StreamMemory memory(stream());
  const int ranks = world().size();
  for (const int64_t unit : {0, 1, 1000, 300'000}) {
    // Rank r sends (r + peer) % 3 units to each peer: some send nothing, some to themselves alone.
    std::vector<int64_t> send_bytes, recv_bytes, gather_bytes;
    int64_t sent = 0, received = 0, gathered = 0;
    for (int r = 0; r < ranks; ++r) {
      sent += send_bytes.emplace_back((world().rank() + r) % 3 * unit);
      received += recv_bytes.emplace_back((r + world().rank()) % 3 * unit);
      gathered += gather_bytes.emplace_back(r % 2 * unit + r);
    }
    const std::vector<std::byte> data = RandomBytes(static_cast<uint64_t>(world().rank()), sent);
    const std::vector<std::byte> part = RandomBytes(static_cast<uint64_t>(100 + world().rank()), gather_bytes[world().rank()]);
    std::vector<std::byte> by_mpi(received), gathered_by_mpi(gathered);
    mpi.AllToAllV(data, send_bytes, by_mpi, recv_bytes);
    mpi.AllGatherV(part, gathered_by_mpi, gather_bytes);
    const auto to = memory.PutBytes(std::vector<std::byte>(received));
    const auto all = memory.PutBytes(std::vector<std::byte>(gathered));
    world().AllToAllV(stream(), memory.PutBytes(data), send_bytes, to, recv_bytes);
    world().AllGatherV(stream(), memory.PutBytes(part), all, gather_bytes);
    EXPECT_EQ(memory.GetBytes(to), by_mpi) << unit;
    EXPECT_EQ(memory.GetBytes(all), gathered_by_mpi) << unit;
    auto from_mpi = RandomBytes(static_cast<uint64_t>(world().rank()), unit);
    const auto data_here = memory.PutBytes(from_mpi);
    mpi.Broadcast(from_mpi, ranks - 1);
    world().Broadcast(stream(), data_here, ranks - 1);
    EXPECT_EQ(memory.GetBytes(data_here), from_mpi) << unit;
  }
}

TEST_F(NcclGpuTest, DataArrivesInStreamOrder) { CheckDataPlane(world(), stream()); }

TEST_F(NcclGpuTest, EveryRowReachesItsExpertAndComesBack) { CheckDispatchCases(world(), stream()); }

TEST_F(NcclGpuTest, DevicesForwardTokens) { CheckForwardedCases(world(), stream()); }

TEST_F(NcclGpuTest, TheStepsGradientHasTheSameBitsOnEveryLayout) { CheckExchangeCases(world(), stream()); }

TEST_F(NcclGpuTest, AMeshOfDevices) {
  Mesh mesh(world(), {.world = world().size(), .pp = 1, .ep = 2});
  CheckDispatchCases(mesh.ep(), stream());
  CheckExchangeCases(mesh.edp(), stream());
}

}  // namespace
}  // namespace jevons
