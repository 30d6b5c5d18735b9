// What kernels/cuda uses of the driver's header, in place of it; see cuda_runtime_api.h.
#ifndef JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_CUDA_H_
#define JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_CUDA_H_

#include <cstdint>

struct alignas(64) CUtensorMap {
  uint64_t opaque[16];
};

#endif  // JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_CUDA_H_
