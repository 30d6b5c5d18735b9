// Token embedding. table: [V,H] FP32 or BF16; ids: [T] I32 in [0,V); y: [T,H] of the table's type.
#ifndef JEVONS_KERNELS_OPS_EMBEDDING_H_
#define JEVONS_KERNELS_OPS_EMBEDDING_H_

#include "kernels/ops/context.h"
#include "kernels/ops/fixed_point.h"

namespace jevons {

void Embedding(const OpContext& ctx, const Tensor& table, const Tensor& ids, const Tensor& y);

// dtable: [V,H] FP32. The rows of one id are summed in row order, complete, then written or added by `mode`; kOverwrite
// zeroes the rows of ids that do not occur.
void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable, WriteMode mode);

// The same into exact sums: the FP32 sum of the rows of one id, complete, is added to dtable [V,H] I64 in fixed point. kAdd touches
// the rows of ids that occur alone. flag: as of FixedPointSum.
void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const FixedPoint& format, const Tensor& dtable,
                       WriteMode mode, int64_t* flag);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_EMBEDDING_H_
