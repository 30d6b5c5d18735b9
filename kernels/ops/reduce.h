// Reductions in an order that depends on the length alone.
#ifndef JEVONS_KERNELS_OPS_REDUCE_H_
#define JEVONS_KERNELS_OPS_REDUCE_H_

#include <span>

#include "kernels/ops/context.h"

namespace jevons {

// sums[i], which lie where the stream works, become the sums of squares in FP64 of elements [i * chunk, (i+1) * chunk) of
// contiguous FP32 x, the last chunk perhaps shorter; NaN or Inf in a chunk gives NaN or Inf. chunk: a multiple of kSquaresBlock.
inline constexpr int64_t kSquaresBlock = int64_t{1} << 14;  // elements of one partial sum, which are joined over the fixed tree
void SumsOfSquares(const OpContext& ctx, const Tensor& x, int64_t chunk, double* sums);

// *sum, which lies where the stream works, becomes the sum of contiguous FP32 x in FP64, in index order.
void Sum(const OpContext& ctx, const Tensor& x, double* sum);

// Sums values[0..n) over the fixed binary tree: node (level, i) covers [i * 2^level, (i+1) * 2^level), clipped to n, and is
// its left half plus its right half. 0 for n = 0.
double TreeSum(std::span<const double> values);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_REDUCE_H_
