#include "kernels/cuda/gemm_wgmma_maps.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/gemm_fp8_layout.h"

namespace jevons::cuda {
namespace {

// Looked up, so that nothing links to libcuda.
PFN_cuTensorMapEncodeTiled_v12000 Encoder() {
  static const auto encoder = [] {
    void* address = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    JEVONS_CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address, 12000, cudaEnableDefault, &found));
    JEVONS_CHECK(found == cudaDriverEntryPointSuccess && address != nullptr,
                 "the NVIDIA driver lacks cuTensorMapEncodeTiled; install one for CUDA 12 or later");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(address);
  }();
  return encoder;
}

}  // namespace

CUtensorMap MapOf(const Tensor& t, int box) {
  CUtensorMap map = {};
  const int64_t size = SizeOf(t.dtype), row = t.rows() > 1 ? t.pitch * size : RoundUp(t.cols() * size, kCodeAlignment);
  const CUtensorMapDataType type = t.dtype == DType::kBF16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                   : t.dtype == DType::kF32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                                                            : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  const cuuint64_t dims[2] = {static_cast<cuuint64_t>(t.cols()), static_cast<cuuint64_t>(t.rows())};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(row)};
  const cuuint32_t boxes[2] = {static_cast<cuuint32_t>(128 / size), static_cast<cuuint32_t>(box)}, steps[2] = {1, 1};
  const CUresult result =
      Encoder()(&map, type, 2, t.data, dims, strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  JEVONS_CHECK(result == CUDA_SUCCESS, "cuTensorMapEncodeTiled: error %d", static_cast<int>(result));
  return map;
}

int Multiprocessors() {
  static const int count = [] {
    int device = 0, n = 0;
    JEVONS_CUDA_CHECK(cudaGetDevice(&device));
    JEVONS_CUDA_CHECK(cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device));
    return n;
  }();
  return count;
}

}  // namespace jevons::cuda
