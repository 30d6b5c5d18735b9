// A software model of AMX, so that the kernels written for it run on CPUs that lack it. There a tile instruction raises SIGILL;
// the model's handler reads the instruction and does what Intel's manual (SDM vol. 2, "TDPBF16PS", "TILELOADD", ...) says, on tiles
// of the thread's own. Hence the very machine code of the program is tested.
#ifndef JEVONS_TESTS_SUPPORT_AMX_MODEL_H_
#define JEVONS_TESTS_SUPPORT_AMX_MODEL_H_

#include <cstdint>

namespace jevons {

// Installs the handler where cpu::AmxProblem() says that the unit is absent, and lets the kernels assume it. Idempotent; for the
// rest of the process. Returns whether the model runs the instructions; false where the hardware does.
bool UseAmxModelWhereAbsent();

// The number of tile products that the model has computed in this process.
int64_t AmxModelProducts();

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_AMX_MODEL_H_
