// Rows to experts and back. The T*K (token, slot) pairs are sorted by expert, then by token: pair t*K+k moves to row
// row_of[t*K+k], and pair_of[row] = t*K+k. A row is the payload of one pair.
#ifndef JEVONS_KERNELS_OPS_PERMUTE_H_
#define JEVONS_KERNELS_OPS_PERMUTE_H_

#include "kernels/ops/context.h"

namespace jevons {

// indices: [T,K] I32 expert of each pair; counts: [E] I64 pairs per expert; row_of, pair_of: out [T*K] I32.
void SortByExpert(const OpContext& ctx, const Tensor& indices, const Tensor& counts, const Tensor& row_of, const Tensor& pair_of);

// y[r] = x[pair_of[r] / slots]. x: [T,H], y: [R,H] of one type. With slots = 1 and x: [T*K,1] it moves one value a pair.
void GatherRows(const OpContext& ctx, const Tensor& x, const Tensor& pair_of, int64_t slots, const Tensor& y);

// out[t] (=|+=) sum over k = 0..K-1, in this order and in FP32, of y[row_of[t*K+k]]. y: [T*K,H]; out: [T,H].
// K = 1 scatters: out[p] = y[row_of[p]].
void SumRows(const OpContext& ctx, const Tensor& y, const Tensor& row_of, int64_t slots, const Tensor& out, WriteMode mode);

// The same with a sum in between, so that who has all rows of a group may add them before they travel: of each token, the rows whose
// experts are in one group (indices / experts_per_group) are summed in FP32 in the order of k; that sum is rounded to y's type; and
// the groups' sums are added in FP32 in ascending order of group. y: [R,H]; row_of: [T*K]; indices: [T,K] I32, the expert of each pair.
void SumRowsByGroup(const OpContext& ctx, const Tensor& y, const Tensor& row_of, const Tensor& indices, int64_t experts_per_group,
                    const Tensor& out, WriteMode mode);

// out[s] (=|+=) the sum in FP32, in this order, of y[rows[i]] for i from offsets[s] to offsets[s+1]: 0 where there are none. y: [R,H];
// rows: [N] I32; offsets: [S+1] I32, ascending from 0 to N; out: [S,H].
void SumSegments(const OpContext& ctx, const Tensor& y, const Tensor& rows, const Tensor& offsets, const Tensor& out,
                 WriteMode mode);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_PERMUTE_H_
