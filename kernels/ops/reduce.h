// Reductions in an order that depends on the length alone.
#ifndef JEVONS_KERNELS_OPS_REDUCE_H_
#define JEVONS_KERNELS_OPS_REDUCE_H_

#include <span>

#include "kernels/ops/context.h"

namespace jevons {

// The sum of squares in FP64 of contiguous FP32 x; NaN or Inf in x gives NaN or Inf. One call sums a chunk of a tensor.
double SumOfSquares(const OpContext& ctx, const Tensor& x);

// The sum of contiguous FP32 x in FP64, in index order.
double Sum(const OpContext& ctx, const Tensor& x);

// Sums values[0..n) over the fixed binary tree: node (level, i) covers [i * 2^level, (i+1) * 2^level), clipped to n, and is
// its left half plus its right half. 0 for n = 0.
double TreeSum(std::span<const double> values);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_REDUCE_H_
