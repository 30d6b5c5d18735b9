#include "launch/runtime.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <set>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/cpu/product_peak.h"
#include "kernels/tensor/device.h"
#include "launch/cli.h"
#include "launch/gpu.h"
#include "launch/machine.h"
#include "launch/version.h"
#include "trainer/run/same_run.h"

namespace jevons {
namespace {

constexpr double kGpuPrice = 2;         // dollars an hour: what the DeepSeek-V3 report pays for an H800 (table 1)
Communicator* machine_ranks = nullptr;  // of the session

// What the OpenMP variable says, or 0: "8", or "8,2" for nested regions.
int ThreadsOfEnvironment() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  int threads = 0;
  return text != nullptr && absl::SimpleAtoi(absl::string_view(text).substr(0, std::strcspn(text, ",")), &threads)
             ? std::max(threads, 0)
             : 0;
}

struct Cores {
  double share = 0;  // of this rank
  int bound = 0;     // that any rank of the machine may use
};

// Of this rank among those of its machine.
Cores CoresOf(Communicator& machine) {
  const auto ranks = static_cast<size_t>(machine.size());
  const std::vector<int> mine = AffinityCores();
  std::vector<int64_t> bytes(ranks);
  const auto my_bytes = static_cast<int64_t>(mine.size() * sizeof(int));
  machine.AllGather(std::as_bytes(std::span(&my_bytes, 1)), std::as_writable_bytes(std::span(bytes)));
  std::vector<int> all(static_cast<size_t>(std::accumulate(bytes.begin(), bytes.end(), int64_t{0})) / sizeof(int));
  machine.AllGatherV(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), bytes);
  std::vector<std::vector<int>> masks;
  auto next = all.begin();
  for (const int64_t size : bytes) {
    const auto begin = std::exchange(next, next + size / static_cast<int64_t>(sizeof(int)));
    masks.emplace_back(begin, next);
  }
  Cores cores{.share = ShareOfCores(masks, static_cast<size_t>(machine.rank())),
              .bound = static_cast<int>(std::set<int>(all.begin(), all.end()).size())};
  if (const double quota = CoreQuota(); quota > 0) cores.share = std::min(cores.share, quota / static_cast<double>(ranks));
  return cores;
}

// What most products run in: FP8 codes go as BF16.
DType ProductDType(const RunConfig& config) {
  return config.precision().gemm() == FP8_BLOCK ? DType::kBF16 : ComputeDType(config);
}

// The first rank with more threads than cores speaks for all: a thousand ranks may have the same to say.
void WarnOfThreads(int threads, const char* source, Communicator& world) {
  const int cores = UsableCores();
  const bool crowded = threads > cores;
  int64_t order = crowded ? world.size() - world.rank() : 0, count = crowded ? 1 : 0;
  const int64_t mine = order;
  world.AllReduceMax({&order, 1});
  world.AllReduceSum({&count, 1});
  if (!crowded || mine != order) return;
  LogWarning(absl::StrFormat("%s = %d, but this rank may use %d core(s): threads will wait for each other%s", source, threads,
                             cores, count > 1 ? absl::StrFormat("; so it is on %d ranks", count) : ""));
}

}  // namespace

Communicator& MachineRanks() {
  JEVONS_CHECK(machine_ranks != nullptr, "ranks have not been started");
  return *machine_ranks;
}

absl::StatusOr<std::unique_ptr<MpiSession>> StartRanks() {
  JEVONS_ASSIGN_OR_RETURN(std::unique_ptr<MpiSession> session, MpiSession::Start(nullptr, nullptr));
  SetLogRank(session->world().rank(), session->world().size());
  machine_ranks = &session->machine();
  return session;
}

absl::Status AgreeOnCommand(Communicator& world, const absl::StatusOr<RunConfig>& config,
                            std::map<std::string, std::string> facts) {
  if (!config.ok()) return AgreeOnRun(world, config.status());
  facts["program"] = absl::StrReplaceAll(VersionText(), {{"\n", ", "}});
  return AgreeOnRun(world, RankIdentity{*config, std::move(facts)});
}

CpuUse SetThreads(const RunConfig& config, Communicator& world) {
  const Cores cores = CoresOf(MachineRanks());
  const int asked = static_cast<int>(config.parallel().threads()), environment = ThreadsOfEnvironment();
  CpuUse use;
  use.threads = asked > 0 ? asked : environment > 0 ? environment : std::max(1, static_cast<int>(cores.share + 1e-6));
  use.cores = std::min<double>(use.threads, cores.share);
  WarnOfThreads(use.threads, asked > 0 ? "parallel.threads" : "OMP_NUM_THREADS", world);
  if (world.rank() == 0 && asked == 0 && environment == 0 && cores.bound < MachineCores() &&
      std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr)
    LogWarning(
        absl::StrFormat("the ranks of this machine are bound to %d of its %d cores; `mpirun --bind-to none` lets them share all "
                        "that the job has",
                        cores.bound, MachineCores()));
  omp_set_dynamic(0);
  omp_set_num_threads(use.threads);
  return use;
}

Meter MeasureMeter(const RunConfig& config, Communicator& world, const CpuUse& cpu) {
  const CostConfig& cost = config.cost();
  const bool cuda = config.parallel().backend() == CUDA;
  Meter meter{.flops_per_token = 0,
              .mtp_flops_per_token = 0,
              .peak_flops = 0,
              .peak_source = {},
              .devices = static_cast<double>(world.size()),
              .price_per_device_hour = {},
              .device = cost.device(),
              .reference_mfu = cost.reference_mfu()};
  CountFlopsOf(config, meter);
  if (cuda && !cost.has_device()) meter.device = ExamineCuda().devices.front().name;
  if (cost.has_price_per_device_hour())
    meter.price_per_device_hour = cost.price_per_device_hour();
  else if (cuda)
    meter.price_per_device_hour = kGpuPrice;
  if (!cuda) {
    int64_t millicores = std::llround(cpu.cores * 1e3);
    world.AllReduceSum({&millicores, 1});
    meter.devices = static_cast<double>(millicores) * 1e-3;
  }
  if (cost.peak_tflops() > 0) {
    meter.peak_flops = cost.peak_tflops() * 1e12 * meter.devices;
    return meter;
  }
  // A rank that shares its cores measures them whole: it is the best of several moments.
  const double mine =
      cuda ? MeasureGpuPeak() : MeasureProductPeak(ProductDType(config), cpu.threads) * 1e9 * cpu.cores / cpu.threads;
  int64_t megaflops = std::llround(mine * 1e-6);
  world.AllReduceSum({&megaflops, 1});
  meter.peak_flops = static_cast<double>(megaflops) * 1e6;
  meter.peak_source = absl::StrFormat("%g x %s, %s", meter.devices, cuda ? meter.device : ProcessorName(), ProductsText(config));
  return meter;
}

int RunOnRanks(const std::function<absl::Status(Communicator& world)>& run) {
  const auto session = StartRanks();
  if (!session.ok()) return Finish(session.status());
  return FinishRanks(run((*session)->world()), (*session)->world());
}

int RunOnOneRank(absl::string_view command, const std::function<absl::Status(Communicator& world)>& run) {
  return RunOnRanks([&](Communicator& world) {
    return world.size() == 1 ? run(world) : UsageError(absl::StrFormat("%s runs on one rank: start it without mpirun", command));
  });
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
