#include "launch/gpu.h"

#include <cstdlib>

#include "absl/strings/str_format.h"
#include "kernels/base/environment.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/gemm.h"
#include "launch/runtime.h"
#include "parallel/comm/nccl.h"
#include "trainer/checkpoint/agreement.h"

namespace jevons {
namespace {

// A launcher that binds each task to a GPU hides the others from it: every rank of the machine sees one, and calls it 0. NCCL refuses
// two ranks on one device, should they have been bound to the same.
bool BoundToOneGpu(const CudaReport& cuda) { return cuda.devices.size() == 1 && std::getenv("CUDA_VISIBLE_DEVICES") != nullptr; }

absl::Status CheckGpu(const CudaReport& cuda, int local_rank) {
  if (!cuda.problem.empty())
    return FailureError(
        absl::StrFormat("parallel.backend = CUDA: %s; `jevons doctor` says what this machine has; or add --set "
                        "parallel.backend=CPU",
                        cuda.problem));
  const auto gpus = static_cast<int>(cuda.devices.size());
  if (local_rank >= gpus && !BoundToOneGpu(cuda) && !EnvironmentSwitch("JEVONS_SHARED_GPU"))
    return UsageError(
        absl::StrFormat("parallel.backend = CUDA: rank %d of a machine that has %d GPU(s): start at most one rank for "
                        "each of its GPUs",
                        local_rank + 1, gpus));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> OpenGpus(const RunConfig& config, Communicator& host) {
  if (config.parallel().backend() == CPU) return nullptr;
  const CudaReport cuda = ExamineCuda();
  const int local_rank = MachineRanks().rank();
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(host, CheckGpu(cuda, local_rank)));
  UseCudaDevice(local_rank % static_cast<int>(cuda.devices.size()));
  if (host.size() == 1) return nullptr;
  return MakeNcclCommunicator(host);
}

int RanksPerGpu(const CudaReport& cuda, int ranks) {
  const auto gpus = static_cast<int>(cuda.devices.size());
  return BoundToOneGpu(cuda) ? 1 : (ranks + gpus - 1) / gpus;
}

double MeasureGpuPeak() {
  constexpr int64_t kSize = 8192;
  constexpr int kRepeats = 10;
  OwnedStream stream(Device::kCuda);
  Arena arena("peak", int64_t{4} << 30, Device::kCuda);
  const OpContext ops{.stream = stream.get(), .scratch = &arena};
  const Shape square = {kSize, kSize};
  GemmDesc product{.a = arena.Allocate("a", DType::kBF16, square),
                   .b = arena.Allocate("b", DType::kBF16, square),
                   .c = arena.Allocate("c", DType::kBF16, square),
                   .b_form = Form::kTransposed};
  // Numbers as in training: products of zeros draw less power and run faster.
  const Tensor numbers = arena.Allocate("numbers", DType::kF32, square);
  FillNormal(ops, 1, 1, 0, 1.0f, numbers.Reshape({numbers.size()}));
  Copy(ops, numbers, product.a);
  Copy(ops, numbers, product.b);
  Gemm(ops, product);
  Event begin(Device::kCuda), end(Device::kCuda);
  begin.Record(stream.get());
  for (int i = 0; i < kRepeats; ++i) Gemm(ops, product);
  end.Record(stream.get());
  end.Synchronize();
  return 2.0 * kSize * kSize * kSize * kRepeats / (end.MillisecondsSince(begin) * 1e-3);
}

}  // namespace jevons
