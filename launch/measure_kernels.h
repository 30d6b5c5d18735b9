// How fast this rank's device runs the kernels that the planner's cost model is made of.
#ifndef JEVONS_LAUNCH_MEASURE_KERNELS_H_
#define JEVONS_LAUNCH_MEASURE_KERNELS_H_

#include <vector>

#include "configs/run.pb.h"
#include "kernels/ops/context.h"
#include "trainer/plan/calibration.h"

namespace jevons {

struct KernelSizes {
  struct Product {
    int64_t rows, n, k;
  };
  std::vector<Product> products;
  int64_t tokens = 1024, sequence = 1024;  // of a micro-batch; of each of its sequences
  int64_t hidden = 1024, inner = 1024;     // of norms; of SwiGLU's output
  int64_t vocab = 4096;
  int64_t heads = 8, nope_dim = 64, rope_dim = 32, value_dim = 64;
  DType dtype = DType::kF32;  // of all but the products, which run in all types
};

// Products of a few sizes that a model without a config might have.
KernelSizes TypicalSizes();
// A micro-batch of this run, experts evenly loaded. config: valid, vocab_size resolved.
KernelSizes SizesOf(const RunConfig& config);

// Fills products, copy, elementwise, cast and attention: lower quartiles of some repeats, under a minute in all.
void MeasureKernels(const Stream& stream, const KernelSizes& sizes, Measurements& m);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_MEASURE_KERNELS_H_
