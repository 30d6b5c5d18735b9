# The CUDA backend, or what stands in its place (kernels/cuda/toolkit.cmake looks for the toolkit).
if(JEVONS_HAS_CUDA)
  set(cuda_sources cuda/cuda_ops.cc cuda/device.cc cuda/elementwise.cu)
  set(cuda_libraries CUDA::cudart_static CUDA::cublasLt)
else()
  set(cuda_sources cuda/absent.cc)
  set(cuda_libraries)
endif()
