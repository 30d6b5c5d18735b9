// The MPI transport, and the process's place in the job.
#ifndef JEVONS_PARALLEL_COMM_MPI_H_
#define JEVONS_PARALLEL_COMM_MPI_H_

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"

namespace jevons {

// Starts MPI once per process and ends it when destroyed. Refuses the silent singleton: where the environment
// says that a launcher started several tasks (SLURM_NTASKS, OMPI_COMM_WORLD_SIZE, PMI_SIZE) but MPI sees one,
// UsageError names the right command. Without a launcher the world is this process alone, and no MPI daemon
// is needed.
class MpiSession {
 public:
  static absl::StatusOr<std::unique_ptr<MpiSession>> Start(int* argc, char*** argv);
  ~MpiSession();
  Communicator& world() { return *world_; }
  // The ranks that share this machine's memory with this one, in the order of the world.
  Communicator& machine() { return *machine_; }

  // Ends every rank of the job at once with `exit_code`, from any thread: for errors that one rank alone has
  // seen.
  [[noreturn]] static void Abort(int exit_code);

 private:
  MpiSession(std::unique_ptr<Communicator> world, std::unique_ptr<Communicator> machine);
  std::unique_ptr<Communicator> world_, machine_;
};

// "Open MPI v4.1.4", of the library that this process has loaded.
std::string MpiLibraryVersion();

namespace internal {
// Longer messages travel in pieces of this size; for tests. The same on every rank.
void SetMaxMessageBytes(int64_t bytes);
}  // namespace internal

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_MPI_H_
