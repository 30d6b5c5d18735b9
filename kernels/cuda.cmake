# The CUDA backend, or what stands in its place (kernels/cuda/toolkit.cmake looks for the toolkit); and what needs no CUDA, since memory is
# counted without it.
if(JEVONS_HAS_CUDA)
  include(cuda/cudnn.cmake)
  set(cuda_sources
    cuda/attention.cc cuda/attention_layout.cu cuda/attention_plain.cu ${JEVONS_CUDNN_SOURCE} cuda/cuda_ops.cc cuda/device.cc
    cuda/elementwise.cu cuda/fixed_point.cu cuda/gemm_fp8_layout.cu cuda/gemm_lt.cc
    cuda/gemm_plain.cu cuda/gemm_wgmma.cu cuda/gemm_wgmma_maps.cc cuda/permute.cu cuda/quantize.cu cuda/quantize_columns.cu
    cuda/reduce.cu cuda/rmsnorm.cu cuda/rope.cu cuda/router.cu cuda/softmax_xent.cu cuda/sort.cu cuda/swiglu.cu
    cuda/swiglu_quantize.cu)
  set(cuda_libraries CUDA::cudart_static CUDA::cublasLt)
else()
  set(cuda_sources cuda/absent.cc cuda/absent_products.cc)
  set(cuda_libraries)
endif()
list(APPEND cuda_sources cuda/attention_plan.cc cuda/counted.cc cuda/gemm.cc cuda/gemm_dense.cc cuda/gemm_fp8_layout.cc cuda/gemm_fp8_lt.cc
                         cuda/refusals.cc cuda/report.cc)
