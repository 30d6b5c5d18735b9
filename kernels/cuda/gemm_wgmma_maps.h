// What the kernel in gemm_wgmma.cu asks of the driver.
#ifndef JEVONS_KERNELS_CUDA_GEMM_WGMMA_MAPS_H_
#define JEVONS_KERNELS_CUDA_GEMM_WGMMA_MAPS_H_

#include <cuda.h>

#include "kernels/tensor/tensor.h"

namespace jevons::cuda {

// An aligned matrix, U8, BF16 or FP32, for TMA: in boxes of `box` rows and 128 bytes, swizzled by 128 bytes, zero beyond the end.
CUtensorMap MapOf(const Tensor& t, int box);

int Multiprocessors();  // of this process's device

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_GEMM_WGMMA_MAPS_H_
