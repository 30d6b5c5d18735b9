// What a machine has and what it lacks for training.
#ifndef JEVONS_LAUNCH_MACHINE_H_
#define JEVONS_LAUNCH_MACHINE_H_

#include <string>
#include <vector>

namespace jevons {

enum class Verdict {
  kGood,
  kAbsent,  // not there, and training on the CPU does not need it
  kBad,     // training on the CPU needs it
};

struct Finding {
  std::string topic;  // "cpu", "mpi self-test", ...
  Verdict verdict = Verdict::kGood;
  std::string value;   // what was found
  std::string remedy;  // the command that mends it; "" where nothing is to be done
};

// The processor's name, and bytes of memory: all that this process may have, and what of it is in use now.
std::string ProcessorName();
struct MemoryState {
  double total = 0, used = 0;
};
MemoryState ReadMemory();

// Looks at processor, memory, disk, MPI, packages and GPUs. Starts `program` (a path to jevons) on two ranks
// through mpirun to see that MPI works. Takes under ten seconds: everything that is run has a deadline.
std::vector<Finding> ExamineMachine(const std::string& program);

// The command behind the self-test: this process is one rank of several. Returns the exit code: 0 when all of
// them heard of each other.
int CheckRanks(int expected_ranks);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_MACHINE_H_
