// What every operator is given besides its tensors.
#ifndef JEVONS_KERNELS_OPS_CONTEXT_H_
#define JEVONS_KERNELS_OPS_CONTEXT_H_

#include "kernels/tensor/arena.h"
#include "kernels/tensor/stream.h"

namespace jevons {

struct OpContext {
  Stream stream;
  Arena* scratch = nullptr;  // operators take temporaries here and give them back before they return
};

// What an operator does to an output that gradients are summed in: c = sum, or c = c + sum, where the sum is complete
// before the one addition. So "overwrite with micro-batch 0, then add micro-batch 1" has the bits of adding the two
// finished gradients, and a chain of sums the order in which it was made (trainer/DESIGN.md, contract 8).
enum class WriteMode { kOverwrite, kAdd };

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_CONTEXT_H_
