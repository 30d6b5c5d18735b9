#include "kernels/cuda/gemm_wgmma_maps.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/gemm_fp8_layout.h"
#include "kernels/cuda/gemm_wgmma_plan.h"

namespace jevons::cuda {
namespace {

// Looked up, so that nothing links to libcuda.
PFN_cuTensorMapEncodeTiled_v12000 Encoder() {
  static const auto encoder = [] {
    void* address = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    JEVONS_CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address, 12000,
                                                       cudaEnableDefault, &found));
    JEVONS_CHECK(found == cudaDriverEntryPointSuccess && address != nullptr,
                 "the NVIDIA driver lacks cuTensorMapEncodeTiled; install one for CUDA 12 or later");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(address);
  }();
  return encoder;
}

}  // namespace

CUtensorMap MapOfCodes(const Tensor& codes, int box) {
  CUtensorMap map = {};
  const int64_t pitch = codes.rows() > 1 ? codes.pitch : RoundUp(codes.cols(), kCodeAlignment);
  const cuuint64_t dims[2] = {static_cast<cuuint64_t>(codes.cols()), static_cast<cuuint64_t>(codes.rows())};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(pitch)};
  const cuuint32_t boxes[2] = {WgmmaTile::kTerms, static_cast<cuuint32_t>(box)}, steps[2] = {1, 1};
  const CUresult result = Encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, codes.data, dims, strides, boxes,
                                    steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
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
