// One call of cuBLASLt, in its own terms: column-major, D[rows, cols] = A^T B or A B and so on.
#ifndef JEVONS_KERNELS_CUDA_GEMM_LT_H_
#define JEVONS_KERNELS_CUDA_GEMM_LT_H_

#include <cstdint>
#include <string>

#include "kernels/ops/context.h"

namespace jevons::cuda {

// A product's workspace, from its context's arena: what NVIDIA advises for Hopper.
inline constexpr int64_t kLtWorkspaceBytes = int64_t{32} << 20, kLtWorkspaceAlignment = 256;

enum class LtType { kF32, kBF16, kE4M3 };

// How an FP8 operand is scaled. L = ceil(k / 128), and `lines` are the rows of op(A) or the columns of op(B).
enum class LtScales {
  kNone,
  kVectors,  // one per line and 128 of k: [L][lines], no gaps
  kBlocks,   // one per 128 lines and 128 of k: [ceil(lines / 128)][L up to a multiple of 4]
};

inline Tensor LtWorkspace(const OpContext& ctx) {
  return ctx.scratch->Allocate("gemm.workspace", DType::kU8, {kLtWorkspaceBytes + kLtWorkspaceAlignment});
}

struct LtOperand {
  const void* data = nullptr;
  int64_t pitch = 0;        // elements between columns
  bool transposed = false;  // memory holds the transpose
  LtScales scales = LtScales::kNone;
  const float* scale = nullptr;
};

struct LtProduct {
  LtOperand a, b;
  void* d = nullptr;
  int64_t d_pitch = 0;
  int64_t rows = 0, cols = 0, k = 0;
  LtType in = LtType::kBF16, out = LtType::kF32;
  bool add = false;  // D += instead of D =
};

// Sums are FP32 (CUBLAS_COMPUTE_32F): FP32 operands are not cut to TF32, whose 10 bits of mantissa would make the router's
// scores depend on the machine, and D += adds the finished sum to D once. False: cuBLASLt has no algorithm for this product.
bool RunLt(const OpContext& ctx, const LtProduct& product);

// On kNone: the library is taken to have one.
inline bool CountLt(const OpContext& ctx) {
  ArenaScope scope(*ctx.scratch);
  LtWorkspace(ctx);
  return true;
}

std::string LtVersion();  // "13.1"

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_GEMM_LT_H_
