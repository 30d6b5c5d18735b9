#include "launch/runtime.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "absl/strings/str_format.h"
#include "kernels/base/log.h"
#include "kernels/cpu/fma_peak.h"
#include "kernels/tensor/device.h"
#include "launch/cli.h"
#include "launch/gpu.h"
#include "trainer/metrics/flops.h"

namespace jevons {
namespace {

int Cores() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

}  // namespace

int LocalRanks(const Communicator& world) {
  const char* text = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  const int local = text != nullptr ? std::atoi(text) : 0;
  return local > 0 ? local : world.size();
}

absl::StatusOr<std::unique_ptr<MpiSession>> StartRanks() {
  JEVONS_ASSIGN_OR_RETURN(std::unique_ptr<MpiSession> session, MpiSession::Start(nullptr, nullptr));
  SetLogRank(session->world().rank(), session->world().size());
  return session;
}

int SetThreads(const RunConfig& config, const Communicator& world) {
  const int asked = static_cast<int>(config.parallel().threads());
  const int threads = asked > 0 ? asked : std::max(1, Cores() / LocalRanks(world));
  if (world.rank() == 0 && threads > Cores())
    LogWarning(absl::StrFormat("parallel.threads = %d on %d cores: threads will wait for each other", threads, Cores()));
  omp_set_dynamic(0);
  omp_set_num_threads(threads);
  return threads;
}

Meter MeasureMeter(const RunConfig& config, Communicator& world, int threads) {
  const CostConfig& cost = config.cost();
  const double share = std::min(1.0, static_cast<double>(Cores()) / (LocalRanks(world) * threads));
  Meter meter{.flops_per_token = 0,
              .peak_flops = 0,
              .devices = world.size() * threads * share,
              .price_per_device_hour = cost.price_per_device_hour(),
              .device = cost.device()};
  meter.flops_per_token =
      CountFlops(config.model(), config.data().sequence_length(), CoreCount::kCausal).training_without_mtp();
  const bool cuda = config.parallel().backend() == CUDA;
  if (cuda) {
    meter.devices = world.size();
    if (!cost.has_device()) meter.device = ExamineCuda().devices.front().name;
  }
  if (cost.peak_tflops() > 0) {
    meter.peak_flops = cost.peak_tflops() * 1e12 * meter.devices;
    return meter;
  }
  int64_t megaflops = std::llround(cuda ? MeasureGpuPeak() * 1e-6 : MeasureFmaPeak(threads) * 1e3);
  world.AllReduceSum({&megaflops, 1});
  // A rank that shares its core measures the whole core: it is the best of several moments.
  meter.peak_flops = static_cast<double>(megaflops) * 1e6 * (cuda ? 1.0 : share);
  return meter;
}

int RunOnOneRank(absl::string_view command, const std::function<absl::Status(Communicator& world)>& run) {
  const auto session = StartRanks();
  if (!session.ok()) return Finish(session.status());
  Communicator& world = (*session)->world();
  if (world.size() == 1) return Finish(run(world));
  return FinishRanks(UsageError(absl::StrFormat("%s runs on one rank: start it without mpirun", command)), world);
}

int FinishRanks(const absl::Status& status, Communicator& world) {
  const ExitCode code = ExitCodeOf(status);
  if (code == ExitCode::kOk) return 0;
  if (code == ExitCode::kPreempted) {  // what was asked for, and no error
    LogInfo(status.message());
    return static_cast<int>(code);
  }
  const bool everybodys = code == ExitCode::kUsage || code == ExitCode::kNumerical || world.size() == 1;
  if (everybodys) return world.rank() == 0 ? Finish(status) : static_cast<int>(code);
  // Where all have the same error the first rank speaks and ends the job before the others do.
  if (world.rank() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  Finish(status);
  MpiSession::Abort(static_cast<int>(code));
}

}  // namespace jevons
