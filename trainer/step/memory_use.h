// Bytes of one rank, by kind: as used and as planned; and by tensor, as used.
#ifndef JEVONS_TRAINER_STEP_MEMORY_USE_H_
#define JEVONS_TRAINER_STEP_MEMORY_USE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace jevons {

struct MemoryUse {
  int64_t weights = 0, gradients = 0, optimizer = 0;
  int64_t activations = 0;  // the peak of what micro-batches under way need, saved and temporary
  int64_t host = 0;         // of the host's memory, apart from the device's: the average of the weights. Not in the total
  int64_t total() const { return weights + gradients + optimizer + activations; }
};

// Where they went, largest first: of the activations, the tensors alive when most was held, by name.
struct MemoryLedger {
  int64_t masters = 0, moments = 0;                    // of the optimizer
  std::vector<std::pair<std::string, int64_t>> saved;  // kept by forward for backward, and for other stages
  std::vector<std::pair<std::string, int64_t>> stash;  // kept by the gradients of inputs for those of weights
  int64_t holes = 0;                                   // between these, on the heap that they share
  std::vector<std::pair<std::string, int64_t>> temporary;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_STEP_MEMORY_USE_H_
