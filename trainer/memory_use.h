// Bytes of one rank, by kind: as used and as planned.
#ifndef JEVONS_TRAINER_MEMORY_USE_H_
#define JEVONS_TRAINER_MEMORY_USE_H_

#include <cstdint>

namespace jevons {

struct MemoryUse {
  int64_t weights = 0, gradients = 0, optimizer = 0;
  int64_t activations = 0;  // the peak of what a micro-batch needs, saved and temporary
  int64_t total() const { return weights + gradients + optimizer + activations; }
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MEMORY_USE_H_
