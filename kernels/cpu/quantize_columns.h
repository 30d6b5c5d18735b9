// The parts of quantisation on the CPU: by columns (quantize_columns.cc), and what it shares with rows and blocks (quantize.cc).
#ifndef JEVONS_KERNELS_CPU_QUANTIZE_COLUMNS_H_
#define JEVONS_KERNELS_CPU_QUANTIZE_COLUMNS_H_

#include "kernels/cpu/parallel.h"
#include "kernels/ops/quantize.h"

namespace jevons::cpu {

// Not for HWY_SCALAR.
void QuantizeColumns(const QuantizeDesc& desc);  // Tiling::kColumns128x1
void RequantizeColumns(std::span<const RequantizeDesc> descs);

// ParallelRanges whose ranges also count: body(range, stats). The sums go to `stats` if it is given.
template <class Body>
void ParallelCounts(int64_t n, int64_t elements, QuantStats* stats, const Body& body) {
  QuantStats sum;
  ParallelRanges(n, elements, [&](Range range) {
    QuantStats part;
    body(range, part);
#pragma omp critical(jevons_quantize_counts)
    sum += part;
  });
  if (stats != nullptr) *stats += sum;
}

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_QUANTIZE_COLUMNS_H_
