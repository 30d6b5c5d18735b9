// Matrix products of E4M3 codes with the scales of their tiles: C[m,n] = A[m,k] op(B)[k,n] of the dequantised
// operands, as the FP8 recipe has them (DeepSeek-V3 report, section 3.3; blocks of 128 along k: figure 7b).
//
//   product                    a                                       b
//   forward  Y[T,N]  = X W^T   kRows1x128 of X                         kBlocks128x128 of W[N,K], kTransposed
//   dgrad    dX[T,K] = dY W    kRows1x128 of dY                        kBlocks128x128 of W[N,K], kPlain; or of W^T (weight.h), kTransposed
//   wgrad    dW[N,K] = dY^T X  kColumns128x1 of dY: [N,T], [L(T),N]    kColumns128x1 of X: [K,T], [L(T),K],
//                                                                      kTransposed
//
// An element of C is, all in FP32 and each operation rounded,
//
//   acc = 0;  for each block kb of 128 in k, ascending:  acc = acc + p(kb) * (sa(i,kb) * sb(j,kb))
//   C = acc, or C + acc
//
// where p(kb), the tensor core's part, is the product of the block's codes as Gemm computes it for BF16
// operands with k <= 128 (ops/gemm.h; codes are exact in BF16), and the rest is the promotion of section
// 3.3.2. C is FP32 or BF16, rounded once.
//
// Gemm's implementation for BF16 decides p(kb), so JEVONS_GEMM forces it here too: with `cpu` and `ref` p is
// the chain of fused multiply-adds, ascending from zero; with `dot` in the order of pairs; with `amx` in
// that of its tiles (cpu/amx-inl.h). In each an element's bits depend on neither m, n, the tile, the neighbours nor
// the thread count. NaN codes make NaN.
#ifndef JEVONS_KERNELS_OPS_FP8_GEMM_H_
#define JEVONS_KERNELS_OPS_FP8_GEMM_H_

#include <span>
#include <string>

#include "kernels/ops/gemm.h"
#include "kernels/ops/quantize.h"

namespace jevons {

struct Fp8Operand {
  Tensor codes;   // U8: E4M3
  Tensor scales;  // FP32, ScalesShape of the quantised matrix
  Tiling tiling = Tiling::kRows1x128;
};

// The scale of row i of op(A) (column j of op(B)) in block kb of k.
struct ScaleView {
  const float* data;
  int64_t line_stride, block_stride;
  int64_t lines;  // rows or columns that share a scale: 1 or 128
  JEVONS_HOST_DEVICE float operator()(int64_t line, int64_t block) const {
    return data[line / lines * line_stride + block * block_stride];
  }
};

struct Fp8GemmDesc {
  Fp8Operand a;  // codes [m, k]; any tiling
  Fp8Operand b;  // codes [n, k], any tiling, if kTransposed; codes [k, n], kBlocks128x128, if kPlain
  Tensor c;      // [m, n] FP32 or BF16
  Form b_form = Form::kTransposed;
  WriteMode mode = WriteMode::kOverwrite;
  // false: the accumulator never leaves the tensor core, modelled bit by bit (tensor_core.h): blocks continue
  // one chain of steps of 32 products, acc = chain(kb, acc / s) * s with s = sa * sb. The same bits under
  // every implementation.
  bool promote = true;

  int64_t m() const { return c.rows(); }
  int64_t n() const { return c.cols(); }
  int64_t k() const { return a.codes.cols(); }
  ScaleView a_scales() const;
  ScaleView b_scales() const;
  void Validate() const;  // aborts on shapes, types or tilings that do not fit
  std::string ToString() const;
};

// m, n, k may be zero (k = 0 gives zeros); any pitch.
void Fp8Gemm(const OpContext& ctx, const Fp8GemmDesc& desc);

// Independent products as one batch of work. As with GroupedGemm, list those that share b next to each other.
void GroupedFp8Gemm(const OpContext& ctx, std::span<const Fp8GemmDesc> descs);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_FP8_GEMM_H_
