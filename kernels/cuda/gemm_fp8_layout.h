// FP8 operands in the form in which cuBLASLt and TMA take them: lines of codes along k, whose starts and pitches are multiples of
// 16 bytes, and scales without gaps. Temporaries come from the context's arena.
#ifndef JEVONS_KERNELS_CUDA_GEMM_FP8_LAYOUT_H_
#define JEVONS_KERNELS_CUDA_GEMM_FP8_LAYOUT_H_

#include "kernels/ops/fp8_weight.h"

namespace jevons::cuda {

constexpr int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Whether TMA and cuBLASLt can read this matrix where it is, whatever its number of columns.
inline bool IsAligned(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.data) % kCodeAlignment == 0 &&
         (t.rows() <= 1 || t.pitch * SizeOf(t.dtype) % kCodeAlignment == 0);
}

// codes[c][r] = x[r][c] for x: [R, C] U8; codes: [lines >= C, k >= R], beyond x zero. Aligned, as is `codes`.
Tensor TransposedCodes(const OpContext& ctx, const Tensor& x, int64_t lines, int64_t k);

// A copy: [lines >= R, k >= C], beyond x zero.
Tensor PaddedCodes(const OpContext& ctx, const Tensor& x, int64_t lines, int64_t k);

// LtScales::kVectors of `count` lines of k terms: [L(k)][lines >= count], beyond them 1.
Tensor VectorScales(const OpContext& ctx, const ScaleView& scales, int64_t count, int64_t lines, int64_t k);

// LtScales::kBlocks: scales of 128 lines each, [L(lines)][L(k) up to a multiple of 4], filled up with 1.
Tensor BlockScales(const OpContext& ctx, const ScaleView& scales, int64_t lines, int64_t k);

// The kernels behind these four, which fill room that has been taken. out: whole lines, up to their pitch; [outer][inner], where the
// line is the inner index or the outer one.
void FillPaddedCodes(const OpContext& ctx, const Tensor& x, const Tensor& out);
void FillTransposedCodes(const OpContext& ctx, const Tensor& x, const Tensor& out);
void FillScales(const OpContext& ctx, const ScaleView& scales, bool lines_inside, int64_t lines, int64_t blocks,
                const Tensor& out);

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_GEMM_FP8_LAYOUT_H_
