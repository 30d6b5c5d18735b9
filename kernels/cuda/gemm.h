// Matrix products on CUDA streams. Implementations in order, the first that can serve a product does:
//
//   wgmma     FP8        this program's own kernel (gemm_wgmma.cu); only if named
//   cublaslt  all types  NVIDIA's library
//   plain     all types  one chain of fused multiply-adds per element: the bits of the CPU's `cpu` and `ref`; slow
//
// JEVONS_CUDA_GEMM=wgmma|cublaslt|plain in the environment says where the list begins; it begins at cublaslt. A sum that never
// leaves the tensor core (promote = false) is a model bit by bit, which `plain` alone computes.
//
// None allocates memory after a shape's first use, and none waits for the device. Temporaries come from the context's arena.
#ifndef JEVONS_KERNELS_CUDA_GEMM_H_
#define JEVONS_KERNELS_CUDA_GEMM_H_

#include <span>
#include <string>

#include "kernels/ops/fp8_gemm.h"
#include "kernels/ops/gemm.h"

namespace jevons::cuda {

enum class GemmImpl { kWgmma, kCublasLt, kPlain };  // in their order

// Where the list begins in this process, for tests and benchmarks.
void BeginGemmListAt(GemmImpl impl);
GemmImpl BeginOfGemmList();

// Each implementation. The products have no zero side, and k > 0. False: this product is not for it, and nothing was done.
bool LtGemm(const OpContext& ctx, const GemmDesc& desc);
bool LtFp8Gemm(const OpContext& ctx, const Fp8GemmDesc& desc);
void PlainGemm(const OpContext& ctx, const GemmDesc& desc);
void PlainFp8Gemm(const OpContext& ctx, const Fp8GemmDesc& desc);
bool WgmmaServes(const Fp8GemmDesc& desc);
// All served by it. In tiles of this width, for tests; 0: of that which is best (gemm_wgmma_plan.h).
void WgmmaFp8Gemms(const OpContext& ctx, std::span<const Fp8GemmDesc> descs, int width = 0);

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_GEMM_H_
