// What a command that computes sets up first: MPI, threads, and the yardsticks of its figures.
#ifndef JEVONS_LAUNCH_RUNTIME_H_
#define JEVONS_LAUNCH_RUNTIME_H_

#include <functional>
#include <memory>
#include <string>

#include "configs/run.pb.h"
#include "parallel/comm/mpi.h"
#include "trainer/progress.h"

namespace jevons {

// Starts MPI and sets this process's rank for the log. Refuses what MpiSession refuses.
absl::StatusOr<std::unique_ptr<MpiSession>> StartRanks();

// Ranks on this machine: Open MPI says so; otherwise all are taken to be here.
int LocalRanks(const Communicator& world);

// Threads of this rank, as parallel.threads says; set for OpenMP. Ranks on this machine share its cores.
int SetThreads(const RunConfig& config, const Communicator& world);

// Peak speed of all ranks together, measured at once on all of them unless cost.peak_tflops gives it: of a CPU its fused
// multiply-adds in FP32, of a GPU (OpenGpus has been called) a large product in BF16; devices and price. Collective.
Meter MeasureMeter(const RunConfig& config, Communicator& world, int threads);

// Runs a command that computes on one rank, and returns its exit code; a usage error where mpirun started several.
int RunOnOneRank(absl::string_view command, const std::function<absl::Status(Communicator& world)>& run);

// The end of a command that several ranks run. An error that all ranks have (a bad config, a signal, NaN) is told by the
// first; one that a rank may have met alone (a file, a disk) is told by whoever has it, and ends the others.
int FinishRanks(const absl::Status& status, Communicator& world);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_RUNTIME_H_
