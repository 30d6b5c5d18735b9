// What a command that computes sets up first: MPI, threads, and the yardsticks of its figures.
#ifndef JEVONS_LAUNCH_RUNTIME_H_
#define JEVONS_LAUNCH_RUNTIME_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "configs/run.pb.h"
#include "parallel/comm/mpi.h"
#include "trainer/run/progress.h"

namespace jevons {

// Starts MPI and sets this process's rank for the log. Refuses what MpiSession refuses.
absl::StatusOr<std::unique_ptr<MpiSession>> StartRanks();

// The ranks on this machine, this one included; StartRanks has been called.
Communicator& MachineRanks();

// AgreeOnRun (trainer/run/same_run.h) for a command: the program counts too. `config`: as the command has resolved it, or the error that it
// met. The first call that the ranks make together. Collective.
absl::Status AgreeOnCommand(Communicator& world, const absl::StatusOr<RunConfig>& config,
                            std::map<std::string, std::string> facts = {});

// What a rank computes with on its CPU.
struct CpuUse {
  int threads = 1;
  double cores = 1;  // whose time they get: less than the threads where ranks outnumber cores
};
// Threads of this rank, set for OpenMP: as parallel.threads says; where that is 0 as OMP_NUM_THREADS says; else the rank's part of the
// cores that affinity masks and the control group's quota leave the ranks of this machine. Warns of threads without a core. Collective.
CpuUse SetThreads(const RunConfig& config, Communicator& world);

// Peak speed of all ranks together, measured at once on all of them unless cost.peak_tflops gives it: of a CPU its fused
// multiply-adds in FP32, of a GPU (OpenGpus has been called) a large product in BF16; devices and price. Collective.
Meter MeasureMeter(const RunConfig& config, Communicator& world, const CpuUse& cpu);

// Runs a command that all ranks run, and returns its exit code.
int RunOnRanks(const std::function<absl::Status(Communicator& world)>& run);
// Runs a command that computes on one rank, and returns its exit code; a usage error where mpirun started several.
int RunOnOneRank(absl::string_view command, const std::function<absl::Status(Communicator& world)>& run);

// The end of a command that several ranks run. An error that all ranks have (a bad config, a signal, NaN) is told by the
// first; one that a rank may have met alone (a file, a disk) is told by whoever has it, and ends the others.
int FinishRanks(const absl::Status& status, Communicator& world);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_RUNTIME_H_
