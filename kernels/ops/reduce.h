// Reductions in an order that depends on the length alone.
#ifndef JEVONS_KERNELS_OPS_REDUCE_H_
#define JEVONS_KERNELS_OPS_REDUCE_H_

#include <span>
#include <utility>
#include <vector>

#include "kernels/ops/context.h"

namespace jevons {

// For each slice, sums[i], which lie where the stream works, become the sums of squares in FP64 of elements
// [i * chunk, (i+1) * chunk) of x, the last chunk perhaps shorter; NaN or Inf in a chunk gives NaN or Inf. chunk: a multiple of
// kSquaresBlock. Any number of slices, of any lengths; a device is given hundreds of them in two launches.
inline constexpr int64_t kSquaresBlock = int64_t{1} << 14;  // elements of one partial sum, which are joined over the fixed tree
struct SquaresSlice {
  Tensor x;         // contiguous FP32 or I64, of which an element q counts as float(double(q) * unit)
  double* sums;     // one for each chunk
  double unit = 1;  // what 1 of an I64 x is worth
};
void SumsOfSquares(const OpContext& ctx, std::span<const SquaresSlice> slices, int64_t chunk);

// Joins the partial sums of vectors: for each, in this order of (left, right), values[left] += values[right], at last into
// values[0]; then sum = values[0], of which -0 is made +0. Everything lies where the stream works; a device is given one
// addition of hundreds of vectors in one launch. The values are scratch afterwards, and sum may be one of them.
struct PartialSums {
  std::vector<float*> values;  // [size] each; one at least
  float* sum = nullptr;        // [size]
  int64_t size = 0;
};
void JoinSums(const OpContext& ctx, std::span<const PartialSums> vectors, std::span<const std::pair<int, int>> order);

// *sum, which lies where the stream works, becomes the sum of contiguous FP32 x in FP64, in index order.
void Sum(const OpContext& ctx, const Tensor& x, double* sum);

// Sums values[0..n) over the fixed binary tree: node (level, i) covers [i * 2^level, (i+1) * 2^level), clipped to n, and is
// its left half plus its right half. 0 for n = 0.
double TreeSum(std::span<const double> values);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_REDUCE_H_
