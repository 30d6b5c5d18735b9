// How everything ends that would touch a device in a build without the CUDA backend.
#ifndef JEVONS_KERNELS_CUDA_ABSENT_H_
#define JEVONS_KERNELS_CUDA_ABSENT_H_

#include "kernels/base/check.h"

namespace jevons::cuda {

[[noreturn]] inline void Absent(const char* what) {
  CheckFailed(__FILE__, __LINE__, what,
              "this program was built without the CUDA backend; install the CUDA toolkit and build with "
              "-DJEVONS_CUDA=ON, or choose the CPU");
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_ABSENT_H_
