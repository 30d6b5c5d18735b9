#include <algorithm>
#include <cstdlib>

#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {

// JEVONS_CUDA_REPEATS: fewer under a sanitizer, which makes each run up to a hundred times as long.
int CudaRepeats() {
  const char* repeats = std::getenv("JEVONS_CUDA_REPEATS");
  return repeats != nullptr ? std::max(1, std::atoi(repeats)) : 20;
}
void BeforeCudaRepeat(int) {}
std::string CudaRefusal() { return ExamineCuda().problem; }

}  // namespace jevons
