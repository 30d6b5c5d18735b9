// JEVONS_CUDA_CHECK(call): a call of CUDA's runtime or driver that failed aborts with file, line, call and reason (error tier 3).
// Kernels run later than their launch: the message may be of one launched before.
#ifndef JEVONS_KERNELS_CUDA_CHECK_H_
#define JEVONS_KERNELS_CUDA_CHECK_H_

#include <cuda_runtime_api.h>

#include "kernels/base/check.h"

#define JEVONS_CUDA_CHECK(call)                                                                  \
  do {                                                                                           \
    if (const cudaError_t jevons_error = (call); jevons_error != cudaSuccess) [[unlikely]]       \
      ::jevons::CheckFailed(__FILE__, __LINE__, #call, "%s: %s", cudaGetErrorName(jevons_error), \
                            cudaGetErrorString(jevons_error));                                   \
  } while (false)

#endif  // JEVONS_KERNELS_CUDA_CHECK_H_
