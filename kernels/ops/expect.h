// Argument checks of the public operators. A wrong shape or type is a broken invariant: the message names the
// operand.
#ifndef JEVONS_KERNELS_OPS_EXPECT_H_
#define JEVONS_KERNELS_OPS_EXPECT_H_

#include "kernels/ops/context.h"
#include "kernels/ops/fixed_point.h"

namespace jevons {

// A matrix of rows x cols, any pitch.
void ExpectMatrix(const char* name, const Tensor& t, DType dtype, int64_t rows, int64_t cols);
// n contiguous elements, whatever the rank.
void ExpectVector(const char* name, const Tensor& t, DType dtype, int64_t n);
// FP32 or BF16.
void ExpectReal(const char* name, const Tensor& t);
// A contiguous I32 vector of n indices in [begin, end). The values are read on the CPU only.
void ExpectIndices(const OpContext& ctx, const char* name, const Tensor& t, int64_t n, int64_t begin, int64_t end);
// A format within its bounds.
void ExpectFixedPoint(const FixedPoint& format);
// What 1 of an I64 tensor is worth: positive, and not so much that 64 bits of it overflow FP32.
void ExpectUnit(const char* name, double unit);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_EXPECT_H_
