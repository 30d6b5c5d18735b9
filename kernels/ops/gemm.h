// Matrix products: C[m,n] = op(A)[m,k] op(B)[k,n], the one description for forward, dgrad and wgrad.
//
//   Y[T,N]  = X[T,K] W[N,K]^T     Gemm(ctx, {.a = x,  .b = w, .c = y,  .b_form = Form::kTransposed})
//   dX[T,K] = dY[T,N] W[N,K]      Gemm(ctx, {.a = dy, .b = w, .c = dx})
//   dW[N,K] = dY[T,N]^T X[T,K]    Gemm(ctx, {.a = dy, .b = x, .c = dw, .a_form = Form::kTransposed})
//
// A and B are both FP32 or both BF16, C is either; any pitch. Sums are FP32 and rounded once to C's type.
// The CPU's own kernel defines an element as the chain of fused multiply-adds over k = 0, 1, ... from zero: its bits depend on
// neither m, n, the tile, the neighbours nor the thread count. BF16 products go on tiles where there is AMX, and by the pairs of
// vdpbf16ps where that is fast (AMD): other orders, as independent of everything else; GemmImplementation says which.
// JEVONS_GEMM=amx|dot|cpu|ref in the environment forces one. m, n or k may be zero (k = 0 gives zeros). On CUDA streams
// cuBLASLt sums, in an order that the shape decides (kernels/cuda/gemm.h).
#ifndef JEVONS_KERNELS_OPS_GEMM_H_
#define JEVONS_KERNELS_OPS_GEMM_H_

#include <span>
#include <string>

#include "kernels/ops/context.h"

namespace jevons {

enum class Form { kPlain, kTransposed };  // how an operand lies in memory: [m,k] resp. [k,n], or its transpose

struct GemmDesc {
  Tensor a, b, c;
  Form a_form = Form::kPlain;
  Form b_form = Form::kPlain;
  WriteMode mode = WriteMode::kOverwrite;

  int64_t m() const { return c.rows(); }
  int64_t n() const { return c.cols(); }
  int64_t k() const { return a_form == Form::kPlain ? a.cols() : a.rows(); }
  void Validate() const;  // aborts on shapes or types that do not fit
  std::string ToString() const;
};

void Gemm(const OpContext& ctx, const GemmDesc& desc);

// Independent products as one batch of work: the experts' segments, or a queue of weight gradients. Neighbours that share
// the same b are packed once: list segments of one expert next to each other.
void GroupedGemm(const OpContext& ctx, std::span<const GemmDesc> descs);

// Which implementation serves products of this type on this machine, for the log: "cpu avx3_zen4", ...
std::string GemmImplementation(DType dtype, Device device = Device::kCpu);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_GEMM_H_
